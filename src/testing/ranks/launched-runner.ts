/** Entry of a rank that `spawnRanks` started by a launcher: like rank-runner.ts, over a socket instead of Bun's IPC. */
import { deserialize, serialize } from "bun:jsc";
import { rmSync } from "node:fs";
import { environmentText } from "../../environment/index.ts";
import { launcherVariables } from "../../rendezvous/launchers/launcher-variables.ts";
import { encodeFrame, FrameReader, type LaunchedMessage } from "./launched-protocol.ts";
import type { RankOrder } from "./rank-protocol.ts";
import { runBody } from "./run-body.ts";

const names = launcherVariables();
const rank = Number(environmentText(names.rank) ?? 0);
const ordered = Promise.withResolvers<RankOrder>();
const flushed = Promise.withResolvers<void>();
const reader = new FrameReader((bytes) => ordered.resolve(deserialize(bytes) as RankOrder));
let unsent: Uint8Array[] = [];
let isLast = false;

const socket = await Bun.connect({
  unix: environmentText("C10D_RANK_CHANNEL") ?? "",
  socket: {
    data: (_socket, bytes) => reader.push(bytes),
    drain: () => flush(),
    close: () => {
      flushed.resolve();
      if (isLast) return;
      // No process is left to report to, or to remove the job's folder.
      rmSync(environmentText("C10D_RANK_FOLDER") ?? "", { recursive: true, force: true });
      process.exit(1);
    },
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
const place = { rank, worldSize: Number(environmentText(names.worldSize) ?? 1) };
if (!(await runBody(order, place, send))) process.exitCode = 1;
isLast = true;
flush();
await flushed.promise;
