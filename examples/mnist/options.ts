import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { TrainingOptions } from "./trainer.ts";

export interface Options extends TrainingOptions {
  /** Where the chart goes. */
  readonly out: string;
}

const defaults = {
  epochs: "8",
  batch: "100",
  lr: "0.15",
  seed: "1",
  hidden: "96",
  out: fileURLToPath(new URL("out/curves.svg", import.meta.url)),
};

export function parseOptions(args: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      epochs: { type: "string", default: defaults.epochs },
      batch: { type: "string", default: defaults.batch },
      lr: { type: "string", default: defaults.lr },
      seed: { type: "string", default: defaults.seed },
      hidden: { type: "string", default: defaults.hidden },
      out: { type: "string", default: defaults.out },
    },
  });
  return {
    epochs: integer("epochs", values.epochs, 1, 1000),
    batch: integer("batch", values.batch, 1, 10_000),
    learningRate: positive("lr", values.lr),
    seed: integer("seed", values.seed, 0, 0xffff_ffff),
    hidden: integer("hidden", values.hidden, 1, 4096),
    out: values.out,
  };
}

function integer(name: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (text.trim() !== "" && Number.isInteger(value) && value >= least && value <= most) return value;
  throw new Error(`--${name} must be an integer from ${least} to ${most}, got "${text}"`);
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (Number.isFinite(value) && value > 0) return value;
  throw new Error(`--${name} must be a number above 0, got "${text}"`);
}
