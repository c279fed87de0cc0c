import { InvalidArgumentError } from "../../errors/index.ts";
import type { Fault } from "../fault.ts";
import { watchRank } from "../watch/watch-rank.ts";
import { type RankMessage, reportError } from "./rank-protocol.ts";
import type { RankContext } from "./spawn-ranks.ts";

export interface BodyOrder {
  readonly file: string;
  readonly args: unknown;
  readonly opLog: string | SharedArrayBuffer;
  readonly faults: readonly Fault[];
}

/**
 * Runs the default export of a rank's file under watch, and sends its reports and its outcome to the process or thread
 * that started the rank. Never rejects.
 *
 * @returns Whether the function returned something that could be sent.
 */
export async function runBody(
  order: BodyOrder,
  place: Pick<RankContext, "rank" | "worldSize">,
  send: (message: RankMessage) => void,
): Promise<boolean> {
  const { file, args, opLog, faults } = order;
  const sendCopy = (message: RankMessage, what: string): void => {
    try {
      send(message);
    } catch (cause) {
      const text = `rank ${place.rank}: ${what} cannot be copied to the process or thread that started the rank (${cause}); use plain data`;
      throw new InvalidArgumentError(text, { cause, rank: place.rank });
    }
  };
  try {
    watchRank(opLog, faults);
    const { default: body } = (await import(file)) as { default?: unknown };
    if (typeof body !== "function") {
      throw new InvalidArgumentError(`${file} has no function as its default export, so there is nothing to run`, {
        argument: "file",
      });
    }
    const report = (message: unknown): void => sendCopy({ kind: "report", report: message }, "what it reports");
    sendCopy({ kind: "value", value: await body({ ...place, args, report }) }, "what its function returned");
    return true;
  } catch (error) {
    send({ kind: "error", error: reportError(error) });
    return false;
  }
}
