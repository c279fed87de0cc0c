import type { Work } from "../work/index.ts";

/** Lets an op begin before microtasks run: a backward pass may compute the next gradients without a pause. */
export function startedNow<T>(work: Work<T>): Work<T> {
  work.startNow();
  return work;
}
