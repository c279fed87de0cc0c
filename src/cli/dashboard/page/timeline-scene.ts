import type { Lane } from "./op-lanes.ts";
import type { Palette } from "./palette.ts";

export const LANE = 24;
export const AXIS = 24;
export const GUTTER = 128;
export const BAR = 18;

/** What is drawn at one moment. Sizes are in CSS pixels. */
export interface TimelineScene {
  readonly width: number;
  readonly height: number;
  readonly lanes: readonly Lane[];
  /** By how much the lanes are scrolled. */
  readonly scrolled: number;
  readonly from: number;
  readonly to: number;
  readonly now: number;
  /** What times are counted from. */
  readonly startedAt: number;
  readonly lateRanks: ReadonlySet<number>;
  readonly failedRanks: ReadonlySet<number>;
  readonly selected: string | undefined;
  readonly hovered: string | undefined;
  /** Lane that the keyboard is in. */
  readonly lane: string | undefined;
  readonly palette: Palette;
}

export function xOf({ from, to, width }: Pick<TimelineScene, "from" | "to" | "width">, time: number): number {
  return GUTTER + ((time - from) / (to - from)) * (width - GUTTER);
}
