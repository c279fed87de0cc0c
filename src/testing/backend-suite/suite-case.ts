import { madeOf, type Operation } from "../../collectives/index.ts";
import type { Capabilities } from "../../registry/index.ts";
import type { DType } from "../../tensor/index.ts";
import type { SuiteRank } from "./suite-rank.ts";

/** One test of the suite, as every rank runs it on a group of its own. */
export interface SuiteCase {
  /** Unique, e.g. `allReduce > every dtype, reduce op and size`. */
  readonly name: string;
  /** Ops that the backend must claim, or else the ops that they are composed of. */
  readonly ops?: readonly Operation[];
  /** Minimum number of ranks; 1 by default. */
  readonly ranks?: number;
  /** Whether `wait()` has to be able to block until other ranks have acted. */
  readonly blocking?: boolean;
  /** Other claims that the backend must make. */
  readonly claims?: readonly ("anySource" | "abort")[];
  /** Whether messages have to overtake collectives that were called before, or collectives messages. */
  readonly overtakes?: boolean;
  /**
   * Whether it mostly waits for time-outs, never blocks in `wait()`, and makes no groups: such cases run concurrently,
   * at the end.
   */
  readonly idle?: boolean;
  /** Where its tensors have to be; anywhere by default. */
  readonly memory?: "host" | "device";
  /** Whether it makes groups of its own, which all ranks of the job have to do together. */
  readonly makesGroups?: boolean;
  run(rank: SuiteRank): Promise<void>;
}

/** What decides which cases apply. */
export interface SuiteTerms {
  readonly capabilities: Capabilities;
  readonly worldSize: number;
  /** Why `wait()` cannot block; undefined if it can. */
  readonly waitCannotBlock: string | undefined;
  /** Whether the tensors of the cases are on a device. Default is `false`: they are in host memory. */
  readonly onDevice?: boolean;
  /** Whether the backend takes no host memory. Default is `false`. */
  readonly isHostless?: boolean;
}

/** dtypes that the backend claims for an op, or for the op that it is composed of; undefined if it claims neither. */
export function claimedFor({ ops }: Capabilities, op: Operation): readonly DType[] | undefined {
  const part = madeOf(op, (other) => ops[other] !== undefined);
  // Made of messages with a byte each.
  const hasBytes = (message: "send" | "recv") => ops[message]?.includes("uint8") === true;
  if (op === "monitoredBarrier" && hasBytes("send") && hasBytes("recv")) return [];
  return ops[op] ?? (part && ops[part]);
}

/** Why a case does not apply; undefined if it does. */
export function inapplicable(
  each: SuiteCase,
  { capabilities, worldSize, waitCannotBlock, onDevice = false, isHostless = false }: SuiteTerms,
): string | undefined {
  if (each.memory === "device" && !onDevice) return "tensors in host memory are all on one device";
  if (each.memory === "host" && isHostless) return "takes no tensors in host memory";
  const missing = each.ops?.find((op) => claimedFor(capabilities, op) === undefined);
  if (missing !== undefined) return `does not claim ${missing}, and must reject it`;
  const unclaimed = each.claims?.find((claim) => capabilities[claim] !== true);
  if (unclaimed !== undefined) return `does not claim ${unclaimed}`;
  if (each.overtakes && capabilities.messagesInOrder) return "messages keep their order among collectives";
  if (worldSize < (each.ranks ?? 1)) return `needs ${each.ranks} ranks`;
  if (each.blocking && waitCannotBlock !== undefined) return `wait() cannot block: ${waitCannotBlock}`;
  return undefined;
}
