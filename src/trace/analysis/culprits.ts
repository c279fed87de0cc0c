import { ranksOf } from "../text/op-text.ts";

/** Ranks that others wait for. */
export interface Culprits {
  /** Their dumps say that they have not made the call. */
  readonly overdue: readonly number[];
  /** They left no dump. */
  readonly absent: readonly number[];
  /** Their dumps have lost what would tell. */
  readonly lost: readonly number[];
}

/** `rank 2 has not called all_reduce #2, and rank 1 left no dump and may not have called it`. */
export function culpritsText({ overdue, absent, lost }: Culprits, call: string): string {
  const unknown = unknownText(absent, lost);
  if (overdue.length === 0) return `${unknown} may not have called ${call}`;
  const known = `${ranksOf(overdue)} ${overdue.length === 1 ? "has" : "have"} not called ${call}`;
  return unknown === "" ? known : `${known}, and ${unknown} may not have called it`;
}

function unknownText(absent: readonly number[], lost: readonly number[]): string {
  const none = `${lost.length === 1 ? "dump has" : "dumps have"} none of the collectives of the group left`;
  if (lost.length === 0) return absent.length === 0 ? "" : `${ranksOf(absent)} left no dump and`;
  if (absent.length === 0) return `${ranksOf(lost)}, whose ${none},`;
  return `${ranksOf(absent)}, which left no dump, and ${ranksOf(lost)}, whose ${none},`;
}
