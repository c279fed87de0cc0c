/** Entry of a Worker that `workerRanks` started: runs the default export of the given file. */

import { takeSlot } from "../../backends/fake/exchange/worker-link.ts";
import { environmentText } from "../../environment/index.ts";
import { runBody } from "./run-body.ts";
import type { WorkerOrder } from "./worker-ranks.ts";

declare const self: Worker;

self.addEventListener(
  "message",
  async ({ data: order }: MessageEvent<WorkerOrder>) => {
    const place = { rank: Number(environmentText("RANK")), worldSize: Number(environmentText("WORLD_SIZE")) };
    takeSlot(order.slot);
    await runBody({ ...order, faults: [] }, place, (message) => self.postMessage(message));
  },
  { once: true },
);
