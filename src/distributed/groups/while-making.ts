import {
  addCallSite,
  addDetails,
  addToError,
  type CallSite,
  DistError,
  DistTimeoutError,
  InvalidArgumentError,
  lineOf,
  messageOf,
} from "../../errors/index.ts";
import { writeTraceFiles } from "../../process-group/index.ts";
import type { FlightRecorder } from "../../recorder/index.ts";
import type { Logger } from "../../registry/index.ts";
import type { Maker, OwnStatus } from "../../status/index.ts";

/** A group that is being made. */
export interface Making {
  /** Name of the group. */
  readonly group: string;
  /** Global rank of this rank. */
  readonly globalRank: number;
  readonly recorder: FlightRecorder | undefined;
  readonly logger: Logger;
  readonly maker: Maker;
  /** Name of the group of which it is made; undefined for the default group. */
  readonly parent?: string;
  readonly callSite: CallSite;
  /** When it was called, on the clock of `performance.now()`. */
  readonly began: number;
  /** Rank in the group; -1 if this rank is not a member. */
  readonly rank: number;
  readonly globalRanks: readonly number[];
  readonly timeoutMs: number;
  /** Id of its world, if that is known yet. */
  readonly world?: string;
}

/**
 * Makes a group, and says so in the flight recorder, and meanwhile in the status record of this rank. The error of a
 * group that is not made says where it was asked for; when that is because of its time-out, also what the missing ranks
 * are doing. When a group fails to be made, this rank writes its flight recorder.
 */
export async function whileMaking<T>(
  making: Making,
  status: OwnStatus | undefined,
  make: () => Promise<T>,
): Promise<T> {
  const recorded = status?.record.making(making);
  const { maker: call, recorder, group, globalRank, globalRanks, timeoutMs, callSite, began, world } = making;
  const init = { call, group, globalRank, globalRanks, timeoutMs, callSite, began, world };
  const entry = recorder?.beginGroupCall(init);
  try {
    const made = await make();
    entry?.end();
    return made;
  } catch (error) {
    if (error instanceof DistError) addPlace(error, making.callSite);
    if (error instanceof DistTimeoutError) explain(error, making, status, recorded?.turn ?? 0);
    entry?.end(messageOf(error));
    if (error instanceof DistError && !(error instanceof InvalidArgumentError)) dump(making);
    throw error;
  } finally {
    recorded?.end();
  }
}

function dump({ maker, group, globalRank, recorder, logger }: Making): void {
  // Without a rank, the file would have no name.
  if (recorder === undefined || globalRank < 0) return;
  const what = `${maker}: group "${group}" could not be made (rank ${globalRank})`;
  writeTraceFiles({ recorder, globalRank, what, logger });
}

/** The message says it where the reader has to look at what each rank calls: when some are late, or differ. */
function addPlace(error: DistError, callSite: CallSite): void {
  const line = lineOf(callSite);
  if (line !== undefined && (error instanceof DistTimeoutError || differ.has(error.code))) {
    addToError(error, `called at ${line}`);
  }
  if (line !== undefined) addDetails(error, { callSite: line });
  addCallSite(error, callSite);
}

/** Codes of errors about ranks that make a group differently. */
const differ: ReadonlySet<string> = new Set(["DESYNC", "PEER_DEBUG_DETAIL"]);

function explain(error: DistTimeoutError, making: Making, status: OwnStatus | undefined, turn: number): void {
  if (status === undefined) return;
  const { maker, parent, rank, globalRanks } = making;
  const { peers = [] } = error.details;
  const text = status.missingMembers({ maker, parent, turn, rank, globalRanks, peers });
  if (text !== "") addToError(error, text);
}
