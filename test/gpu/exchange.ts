import * as dist from "../../src/index.ts";
import type { DType, TensorLike } from "../../src/tensor/index.ts";
import { exchangeSteps } from "./exchange-steps.ts";
import type { TensorPlace } from "./tensor-place.ts";

/** What became of one step. */
export interface Step {
  readonly name: string;
  /** What is wrong; undefined if nothing. */
  readonly wrong?: string;
}

const needs = ["nccl", "exchange"] as const;
/**
 * What a step needs that not all backends have: `nccl`, ops and dtypes that Gloo lacks; `exchange`, messages that cross
 * within one call.
 */
export type Need = (typeof needs)[number];

export const isNeed = (word: string): word is Need => needs.some((need) => need === word);

/** Number of elements of most tensors. */
export const COUNT = 1001;

/** What a rank contributes: (1 … 7) times its number, counted from one. */
export function values(rank: number, count = COUNT, start = 0): number[] {
  return Array.from({ length: count }, (_, i) => (((start + i) % 7) + 1) * (rank + 1));
}

/** What the steps of a rank work with. */
export class Exchange {
  readonly rank = dist.getRank();
  readonly size = dist.getWorldSize();
  readonly everyone = Array.from({ length: this.size }, (_, i) => i);
  readonly steps: Step[] = [];
  readonly #place: TensorPlace;

  constructor(place: TensorPlace) {
    this.#place = place;
  }

  /** A tensor of these elements. */
  make(elements: readonly number[], dtype: DType = "float32"): TensorLike {
    return this.#place.make(elements, dtype);
  }

  /** A tensor of what this rank contributes. */
  own(dtype: DType = "float32", count = COUNT, start = 0): TensorLike {
    return this.make(values(this.rank, count, start), dtype);
  }

  blank(count = COUNT): TensorLike {
    return this.make(Array<number>(count).fill(0));
  }

  /** What all ranks contribute, added up. */
  total(count = COUNT, start = 0): number[] {
    const factor = this.everyone.reduce((sum, rank) => sum + rank + 1, 0);
    return values(0, count, start).map((each) => each * factor);
  }

  /** Notes how the elements of a tensor differ from what they should be. */
  async check(name: string, tensor: TensorLike, expected: readonly number[]): Promise<void> {
    const got = await this.#place.read(tensor);
    const at = expected.findIndex((each, i) => each !== got[i]);
    const isGood = at < 0 && got.length === expected.length;
    const wrong = `element ${at} of ${got.length} is ${got[at]}, not ${expected[at]}`;
    this.steps.push(isGood ? { name } : { name, wrong });
  }
}

/**
 * The steps of parts/mixed-rank.py, with this library, in the default group of two ranks. One that throws ends it, since
 * the other rank is then in another one.
 */
export async function exchange(place: TensorPlace, without: readonly Need[] = []): Promise<Step[]> {
  const it = new Exchange(place);
  for (const { needs, run } of exchangeSteps) {
    if (needs === undefined || !without.includes(needs)) await run(it);
  }
  return it.steps;
}
