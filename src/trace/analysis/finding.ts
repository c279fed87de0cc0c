import type { TraceGroup } from "./group-traces.ts";
import type { Difference, Side } from "./signature.ts";

/**
 * What is wrong:
 * - `mismatch`: ranks made different calls in the same place
 * - `missing`: others wait in a collective that these ranks have not called
 * - `absent`: others wait, and these ranks left no dump
 * - `message`: a send or recv has no partner, or another size or dtype than its partner
 * - `failed`: an op failed for another reason
 * - `stuck`: all ranks have called a collective, and it does not end
 */
export type FindingKind = "mismatch" | "missing" | "absent" | "message" | "failed" | "stuck";

export interface Finding {
  readonly kind: FindingKind;
  readonly group: TraceGroup;
  /** Number of the collective in its group; undefined for a message. */
  readonly seq: number | undefined;
  /** Ranks that it is about: those that are missing or in the minority, the likely culprits; without a majority, all. */
  readonly ranks: readonly number[];
  /** In plain words, in one paragraph. */
  readonly text: string;
  /** The calls that differ, the most common one first. */
  readonly sides?: readonly Side[];
  readonly differences?: readonly Difference[];
}
