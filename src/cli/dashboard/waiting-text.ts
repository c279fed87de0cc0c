import { ranksText } from "../../errors/index.ts";
import type { RankRecord } from "../../status/index.ts";
import { durationText } from "../../time/index.ts";

/** From then on it is conspicuous that something does not end, although no rank is missing. */
export const SLOW_MS = 5_000;

/** A rank that waits for others. */
export interface Wait {
  readonly record: RankRecord;
  readonly began: number;
  readonly callSite: string | undefined;
}

/** Which ranks wait, for how long, and where they called it: a line for each place, the longest wait first. */
export function waitingText(waits: readonly Wait[]): string {
  const bySite = Map.groupBy(
    waits.toSorted((a, b) => a.began - b.began),
    ({ callSite }) => callSite,
  );
  const lines = [...bySite].map(([callSite, all]) => {
    const longest = Math.max(...all.map(({ record, began }) => record.at - began));
    const ranks = all.map(({ record }) => record.rank).sort((a, b) => a - b);
    return `${ranksText(ranks)}: in it for ${durationText(longest)}${callSite === undefined ? "" : `, called at ${callSite}`}`;
  });
  return lines.join("\n");
}

/** What begins the list of the ranks that these wait for. */
export function waitsHead(ranks: readonly number[]): string {
  return ranks.length === 1 ? `${ranksText(ranks)} waits for` : "they wait for";
}

export const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);
