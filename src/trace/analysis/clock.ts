import { needsAllRanks } from "../op-kind.ts";
import type { RankTrace } from "../rank-trace.ts";
import type { GroupTraces, MemberTrace } from "./group-traces.ts";

/** Offsets below this are taken for the time that messages need, in milliseconds. */
const LEAST_OFFSET_MS = 50;
/** Number of collectives that the clocks of two hosts are compared by, at least. */
const LEAST_SAMPLES = 3;

/**
 * How far the clock of each rank's host is ahead of that of the first rank, in milliseconds: ranks complete a collective
 * that needs all of them at almost the same time. Ranks of one host have one clock; without a host, each has its own.
 */
export function clockOffsets(
  traces: readonly RankTrace[],
  groups: readonly GroupTraces[],
): ReadonlyMap<number, number> {
  const offsets = new Map<number, number>();
  const offsetOfHost = new Map<string, number>();
  const [reference] = traces;
  for (const trace of traces) {
    const host = trace.host ?? `rank ${trace.rank}`;
    const known = trace === reference ? 0 : offsetOfHost.get(host);
    const offset = known ?? (reference === undefined ? 0 : offsetBetween(reference.rank, trace.rank, groups));
    offsetOfHost.set(host, offset);
    offsets.set(trace.rank, offset);
  }
  return offsets;
}

function offsetBetween(reference: number, rank: number, groups: readonly GroupTraces[]): number {
  const samples: number[] = [];
  for (const { members } of groups) {
    const [own, other] = [members.get(reference), members.get(rank)];
    if (own !== undefined && other !== undefined) samples.push(...differencesOf(own, other));
  }
  if (samples.length < LEAST_SAMPLES) return 0;
  const median = samples.sort((a, b) => a - b)[Math.floor(samples.length / 2)] ?? 0;
  return Math.abs(median) < LEAST_OFFSET_MS ? 0 : median;
}

function differencesOf(reference: MemberTrace, other: MemberTrace): readonly number[] {
  return [...other.collectives].flatMap(([seq, op]) => {
    const first = reference.collectives.get(seq);
    if (first?.finishedMs === undefined || op.finishedMs === undefined || !needsAllRanks(op.kind)) return [];
    return first.state === "completed" && op.state === "completed" ? [op.finishedMs - first.finishedMs] : [];
  });
}
