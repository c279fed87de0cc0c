/** Entry of a rank that `spawnRanks` has had a launcher start: as rank-runner.ts, over a socket instead of Bun's IPC. */
import { deserialize, serialize } from "bun:jsc";
import { launcherVariables } from "../rendezvous/launcher-variables.ts";
import { encodeFrame, FrameReader, type LaunchedMessage } from "./launched-protocol.ts";
import { type RankOrder, reportError } from "./rank-protocol.ts";
import type { RankBody, RankContext } from "./spawn-ranks.ts";
import { watchRank } from "./watch/watch-rank.ts";

const names = launcherVariables();
const rank = Number(process.env[names.rank] ?? 0);
const ordered = Promise.withResolvers<RankOrder>();
const flushed = Promise.withResolvers<void>();
const reader = new FrameReader((bytes) => ordered.resolve(deserialize(bytes) as RankOrder));
let unsent: Uint8Array[] = [];
let isLast = false;

const socket = await Bun.connect({
  unix: process.env.C10D_RANK_CHANNEL ?? "",
  socket: {
    data: (_socket, bytes) => reader.push(bytes),
    drain: () => flush(),
    close: () => flushed.resolve(),
  },
});

function send(message: LaunchedMessage): void {
  unsent.push(encodeFrame(new Uint8Array(serialize(message))));
  flush();
}

function flush(): void {
  for (let next = unsent[0]; next !== undefined; next = unsent[0]) {
    const written = socket.write(next);
    if (written < next.length) {
      unsent[0] = next.subarray(Math.max(written, 0));
      return;
    }
    unsent = unsent.slice(1);
  }
  if (isLast) socket.end();
}

send({ kind: "hello", rank, pid: process.pid });
const order = await ordered.promise;
const context: RankContext = {
  rank,
  worldSize: Number(process.env[names.worldSize] ?? 1),
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
}
isLast = true;
flush();
await flushed.promise;
