import { addCallSite, addToError, type CallSite, DistTimeoutError, lineOf } from "../../errors/index.ts";
import type { Maker, OwnStatus } from "../../status/index.ts";

/** A group that is being made. */
export interface Making {
  readonly maker: Maker;
  /** Name of the group of which it is made; undefined for the default group. */
  readonly parent?: string;
  readonly callSite: CallSite;
  /** When it was called, on the clock of `performance.now()`. */
  readonly began: number;
  /** Rank in the group; -1 if this rank is not a member. */
  readonly rank: number;
  readonly globalRanks: readonly number[];
}

/**
 * Makes a group, and says so in the status record of this rank meanwhile. The error of a group that is not made in time
 * says where it was asked for, and what the missing ranks are doing.
 */
export async function whileMaking<T>(
  making: Making,
  status: OwnStatus | undefined,
  make: () => Promise<T>,
): Promise<T> {
  const recorded = status?.record.making(making);
  try {
    return await make();
  } catch (error) {
    if (error instanceof DistTimeoutError) explain(error, making, status, recorded?.turn ?? 0);
    throw error;
  } finally {
    recorded?.end();
  }
}

function explain(error: DistTimeoutError, making: Making, status: OwnStatus | undefined, turn: number): void {
  const { maker, parent, callSite, rank, globalRanks } = making;
  const line = lineOf(callSite);
  if (line !== undefined) addToError(error, `called at ${line}`, { callSite: line });
  addCallSite(error, callSite);
  if (status === undefined) return;
  const { peers = [] } = error.details;
  const text = status.missingMembers({ maker, parent, turn, rank, globalRanks, peers });
  if (text !== "") addToError(error, text);
}
