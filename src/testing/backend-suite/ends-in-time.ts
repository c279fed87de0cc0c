import { messageOf } from "../../errors/index.ts";
import type { SuiteRank } from "./suite-rank.ts";

/** The failure of something that has to end within a limit in milliseconds; undefined if none. Never rejects. */
export async function troubleOfEnding(
  what: string,
  limitMs: number,
  end: () => Promise<void>,
): Promise<string | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<string>();
  const timer = setTimeout(resolve, limitMs, `${what} had not ended after ${limitMs} ms`);
  const ended = end().then(
    () => undefined,
    (error: unknown) => `${what} failed: ${messageOf(error)}`,
  );
  const trouble = await Promise.race([ended, late]);
  clearTimeout(timer);
  return trouble;
}

/** Checks that it ends within the limit. */
export async function endsInTime(
  it: SuiteRank,
  what: string,
  limitMs: number,
  end: () => Promise<void>,
): Promise<void> {
  const trouble = await troubleOfEnding(what, limitMs, end);
  it.check(trouble === undefined, `${trouble}`);
}
