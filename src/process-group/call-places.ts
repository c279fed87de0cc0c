import { addDetails, addToError, type DistError, type NamedCall } from "../errors/index.ts";
import type { OwnStatus } from "../status/index.ts";

/** The op of this rank that differs from that of another one. Ranks are ranks in the group. */
export interface DifferingOp {
  readonly group: string;
  readonly rank: number;
  readonly globalRanks: readonly number[];
  /** Where this rank called it. */
  readonly callSite: string | undefined;
  /** Its place among the collectives that this rank has called on the group; 0 if unknown. */
  readonly turn: number;
}

/** `rank 0 called allReduce(float32[4], PREMUL_SUM(0.5)) as collective #3`. */
const CALL = /\brank (\d+) called (\w+\((?:[^()]|\([^()]*\))*\))(?: as collective #(\d+))?/g;

/**
 * Adds to an error about calls that differ where they were made: by this rank, and by the ranks that the error names, if
 * that is in their status records.
 * @param status The record of this rank, beside those of the others.
 */
export function addCallPlaces(error: DistError, op: DifferingOp, status: OwnStatus | undefined): void {
  const { calls, isOwn } = namedCalls(error, op.rank);
  const others = isOwn ? calls.map(({ rank }) => rank).filter((rank) => rank !== op.rank) : [];
  const published = others.length === 0 || op.turn === 0 ? undefined : status?.publishedSites(op, others);
  const sites = published ?? new Map<number, string>();
  if (op.callSite !== undefined) sites.set(op.rank, op.callSite);
  if (calls.length > 0) addDetails(error, { calls: calls.map((call) => placed(call, sites.get(call.rank))) });
  const places = [...sites].sort(([a], [b]) => a - b).map(([rank, site]) => `at ${site} on rank ${rank}`);
  if (places.length > 0) addToError(error, `called ${places.join(", ")}`);
}

function placed(call: NamedCall, callSite: string | undefined): NamedCall {
  return callSite === undefined ? call : { ...call, callSite };
}

/** The two calls that an error names, this rank's first, and whether they are about the op that failed with it. */
function namedCalls(error: DistError, own: number): { readonly calls: readonly NamedCall[]; readonly isOwn: boolean } {
  const { calls: known, seq } = error.details;
  if (known !== undefined) return { calls: known, isOwn: true };
  const found = [...error.message.matchAll(CALL)].slice(0, 2);
  const calls = found.map(([, rank, call = ""]) => ({ rank: Number(rank), call }));
  // An op that was in flight behind the one that differs fails with the same text.
  const isOwn = found.some(([, , , number]) => number !== undefined && Number(number) === seq);
  return { calls: calls.sort((a, b) => Number(b.rank === own) - Number(a.rank === own)), isOwn };
}
