/** Entry of a rank that `spawnRanks` started: runs the default export of the given file. */

import { environmentText } from "../../environment/index.ts";
import { removeOpLog } from "../watch/op-log.ts";
import type { RankOrder } from "./rank-protocol.ts";
import { runBody } from "./run-body.ts";

let order: RankOrder | undefined;
let isOver = false;

// The process that started the rank disconnects once it has the last message, or when it dies.
process.once("disconnect", () => {
  if (isOver) return;
  if (order !== undefined) removeOpLog(order.opLog);
  process.exit(1);
});

process.once("message", async (message: RankOrder) => {
  order = message;
  const place = { rank: Number(environmentText("RANK")), worldSize: Number(environmentText("WORLD_SIZE")) };
  const isWell = await runBody(order, place, (each) => {
    if (each.kind !== "report") isOver = true;
    process.send?.(each);
  });
  if (!isWell) process.exitCode = 1;
});
