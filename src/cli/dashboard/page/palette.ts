import type { OpKind } from "./op-kinds.ts";

/** Colours of the page's style. */
export interface Palette {
  readonly back: string;
  readonly text: string;
  readonly dim: string;
  readonly line: string;
  readonly stripe: string;
  readonly late: string;
  readonly lateBack: string;
  readonly accent: string;
  /** Edge of what has failed. */
  readonly failed: string;
  readonly kinds: Readonly<Record<OpKind, Ink>>;
  readonly font: string;
}

export interface Ink {
  readonly fill: string;
  readonly edge: string;
}

export function readPalette(from: Element): Palette {
  const style = getComputedStyle(from);
  const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
  const ink = (name: string): Ink => ({ fill: colour(`${name}-fill`), edge: colour(`${name}-edge`) });
  return {
    ...{ back: colour("panel"), text: colour("text"), dim: colour("dim"), line: colour("line") },
    ...{
      stripe: colour("stripe"),
      late: colour("late"),
      lateBack: colour("late-back"),
      accent: colour("accent"),
      failed: colour("failed-edge"),
    },
    kinds: {
      ...{ reduce: ink("reduce"), gather: ink("gather"), scatter: ink("scatter") },
      ...{ exchange: ink("exchange"), barrier: ink("barrier"), message: ink("message"), group: ink("group") },
    },
    font: style.fontFamily,
  };
}
