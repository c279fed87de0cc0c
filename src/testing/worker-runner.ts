/** Entry of a Worker that `workerRanks` has started: runs the default export of the file it is told. */
import { takeSeat } from "../backends/fake/worker-link.ts";
import { type RankMessage, reportError } from "./rank-protocol.ts";
import type { RankBody, RankContext } from "./spawn-ranks.ts";
import { watchRank } from "./watch/watch-rank.ts";
import type { WorkerOrder } from "./worker-ranks.ts";

declare const self: Worker;

const send = (message: RankMessage): void => self.postMessage(message);

self.addEventListener(
  "message",
  async ({ data: order }: MessageEvent<WorkerOrder>) => {
    const context: RankContext = {
      rank: Number(process.env.RANK),
      worldSize: Number(process.env.WORLD_SIZE),
      args: order.args,
      report: (report) => send({ kind: "report", report }),
    };
    try {
      takeSeat(order.seat);
      watchRank(order.opLog, []);
      const { default: body } = (await import(order.file)) as { default: RankBody };
      send({ kind: "value", value: await body(context) });
    } catch (error) {
      send({ kind: "error", error: reportError(error) });
    }
  },
  { once: true },
);
