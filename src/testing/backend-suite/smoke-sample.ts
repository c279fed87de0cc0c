import { sweepFromEnvironment } from "./backend-suite.ts";

/**
 * The cases of this run: all in a full sweep; else `count` of them, others every day, which are printed.
 *
 * @param what Names the tests in what is printed.
 * @param turn Moves the choice on, so that tests of one kind do not all take the same cases.
 */
export function smokeSample<T>(what: string, cases: readonly T[], count: number, turn = 0): T[] {
  const { full, seed } = sweepFromEnvironment();
  if (full || count >= cases.length) return [...cases];
  const first = ((seed + turn) * count) % cases.length;
  const drawn = Array.from({ length: count }, (_, i) => cases[(first + i) % cases.length] as T);
  console.log(`sample: ${what}: ${drawn.map((each) => JSON.stringify(each)).join(" ")}, C10D_SEED=${seed}`);
  return drawn;
}
