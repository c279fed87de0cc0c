import { messageOf } from "../../errors/index.ts";
import type { SuiteRank } from "./suite-rank.ts";

/** Checks that the end of something resolves, within a limit in milliseconds. */
export async function endsInTime(
  it: SuiteRank,
  what: string,
  limitMs: number,
  end: () => Promise<void>,
): Promise<void> {
  const started = performance.now();
  const { promise: limit, resolve } = Promise.withResolvers<string>();
  const timer = setTimeout(resolve, limitMs, "had not resolved");
  const ended = end().then(
    () => undefined,
    (error: unknown) => `rejected with ${messageOf(error)}`,
  );
  const trouble = await Promise.race([ended, limit]);
  clearTimeout(timer);
  it.check(trouble === undefined, `${what} ${trouble} after ${Math.round(performance.now() - started)} ms`);
}
