/** Entry of a rank that `spawnRanks` has started: runs the default export of the file it is told. */
import { type RankMessage, type RankOrder, reportError } from "./rank-protocol.ts";
import type { RankBody, RankContext } from "./spawn-ranks.ts";
import { watchRank } from "./watch/watch-rank.ts";

const send = (message: RankMessage): void => {
  process.send?.(message);
};

process.once("message", async (order: RankOrder) => {
  const context: RankContext = {
    rank: Number(process.env.RANK),
    worldSize: Number(process.env.WORLD_SIZE),
    args: order.args,
    report: (report) => send({ kind: "report", report }),
  };
  try {
    watchRank(order.opLog, order.faults);
    const { default: body } = (await import(order.file)) as { default: RankBody };
    send({ kind: "value", value: await body(context) });
  } catch (error) {
    send({ kind: "error", error: reportError(error) });
    process.exitCode = 1;
  } finally {
    process.disconnect?.();
  }
});
