import { madeOf, type Operation } from "../../collectives/index.ts";
import type { Capabilities } from "../../registry/index.ts";
import type { DType } from "../../tensor/index.ts";
import type { SuiteRank } from "./suite-rank.ts";

/** One test of the suite, as every rank runs it on a group of its own. */
export interface SuiteCase {
  /** Unique, e.g. `allReduce > every dtype, reduce op and size`. */
  readonly name: string;
  /** Ops that the backend must claim, or have what they are made of. */
  readonly ops?: readonly Operation[];
  /** Least number of ranks; 1 by default. */
  readonly ranks?: number;
  /** Whether `wait()` has to be able to block until other ranks have acted. */
  readonly blocking?: boolean;
  /** Other claims that the backend must make. */
  readonly claims?: readonly ("anySource" | "abort")[];
  /**
   * Whether it spends its time on limits that run out, never blocks in `wait()`, and makes no groups: such cases run
   * side by side, at the end.
   */
  readonly idle?: boolean;
  /** Whether it makes groups of its own, which all ranks of the job have to do together. */
  readonly makesGroups?: boolean;
  run(rank: SuiteRank): Promise<void>;
}

/** What a backend can be asked to do. */
export interface SuiteTerms {
  readonly capabilities: Capabilities;
  readonly worldSize: number;
  /** Why `wait()` cannot block; undefined if it can. */
  readonly waitCannotBlock: string | undefined;
}

/** dtypes that an op takes: those that the backend claims for it, or for the op that it is made of; undefined if it has neither. */
export function claimedFor({ ops }: Capabilities, op: Operation): readonly DType[] | undefined {
  const part = madeOf(op, (other) => ops[other] !== undefined);
  return ops[op] ?? (part && ops[part]);
}

/** Why a case does not apply; undefined if it does. */
export function inapplicable(
  each: SuiteCase,
  { capabilities, worldSize, waitCannotBlock }: SuiteTerms,
): string | undefined {
  const missing = each.ops?.find((op) => claimedFor(capabilities, op) === undefined);
  if (missing !== undefined) return `does not claim ${missing}, and must reject it`;
  const unclaimed = each.claims?.find((claim) => capabilities[claim] !== true);
  if (unclaimed !== undefined) return `does not claim ${unclaimed}`;
  if (worldSize < (each.ranks ?? 1)) return `needs ${each.ranks} ranks`;
  if (each.blocking && waitCannotBlock !== undefined) return `wait() cannot block: ${waitCannotBlock}`;
  return undefined;
}
