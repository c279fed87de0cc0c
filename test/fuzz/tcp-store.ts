/**
 * Byte-level fuzz of the TCPStore server: `bun test/fuzz/tcp-store.ts [--full] [--frames N] [--seed N]`. One server
 * with PyTorch's open protocol and one with a secret get good, cut, oversized, flipped and random frames on many
 * connections at once, in pieces of any size, while well-behaved clients keep working on both. Exits with an error
 * unless both servers survive, their memory stays bounded, and the other clients were not disturbed.
 */
import { parseArgs } from "node:util";
import { StoreProcess } from "../../bench/harness/store-process.ts";
import { Bystander } from "./bystander.ts";
import { anyFrame, type FrameKind, handshakeFrames, validateFrame } from "./frames.ts";
import { Random } from "./random.ts";

const { values } = parseArgs({
  options: { full: { type: "boolean" }, frames: { type: "string" }, seed: { type: "string" } },
});
const total = Number(values.frames ?? (values.full ? 1_000_000 : 20_000));
const seed = Number(values.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]);
const random = new Random(seed);
const secret = "secret of the fuzz test";
const connections = 32;
/** How much a server may grow after the first tenth. */
const growthLimitMiB = 192;
const slowestLimitMs = 2_000;

const sent: Record<FrameKind, number> = { good: 0, truncated: 0, oversized: 0, flipped: 0, random: 0, handshake: 0 };
let frames = 0;
let opened = 0;
let droppedByServer = 0;
let answered = 0;

await using open = await StoreProcess.start({ C10D_STORE_SECRET: "" });
await using closed = await StoreProcess.start({ C10D_STORE_SECRET: secret });
await using bystanders = new AsyncDisposableStack();
const watchers = [
  bystanders.use(await Bystander.start(open.port, null)),
  bystanders.use(await Bystander.start(open.port, null)),
  bystanders.use(await Bystander.start(closed.port, secret)),
];

const before = [open.memoryMiB(), closed.memoryMiB()];
let warm: number[] | undefined;
const began = performance.now();
await Promise.all(Array.from({ length: connections }, () => worker()));
await stalled();
const seconds = (performance.now() - began) / 1000;

const problems: string[] = [];
for (const [i, server] of [open, closed].entries()) {
  const grown = server.memoryMiB() - (warm?.[i] ?? 0);
  if (!server.alive) problems.push(`server ${i} has ended`);
  if (grown > growthLimitMiB) problems.push(`server ${i} grew by ${grown} MiB`);
  console.log(
    `server ${i === 0 ? "open" : "with a secret"}: ${before[i]} MiB at first, ${warm?.[i]} after a tenth, ${server.memoryMiB()} at the end, peak ${server.peakMiB()}`,
  );
}
for (const watcher of watchers) {
  const { calls, slowestMs, error } = await watcher.stop();
  if (error !== undefined) problems.push(`a bystander failed: ${error}`);
  if (calls === 0 || slowestMs > slowestLimitMs)
    problems.push(`a bystander had ${calls} calls, slowest ${slowestMs} ms`);
  console.log(`bystander: ${calls} calls, slowest ${slowestMs.toFixed(1)} ms`);
}
const strangers = await watchers[2]?.strangeKeys();
if (strangers?.length !== 0) problems.push(`without the secret these keys were set: ${strangers?.slice(0, 5)}`);

console.log(
  `${frames} frames (${Object.entries(sent)
    .map(([kind, count]) => `${count} ${kind}`)
    .join(
      ", ",
    )}) on ${opened} connections, of which the servers ended ${droppedByServer}, ${(answered / 2 ** 20).toFixed(1)} MiB of answers, in ${seconds.toFixed(1)} s, seed ${seed}`,
);
for (const problem of problems) console.error(`FAILED: ${problem}`);
process.exitCode = problems.length === 0 && frames >= total ? 0 : 1;

/** Opens one connection after another, and sends on each until the first bad frame. */
async function worker(): Promise<void> {
  while (frames < total) {
    const toClosed = random.chance(0.15);
    let isClosed = false;
    const disconnected = Promise.withResolvers<void>();
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port: toClosed ? closed.port : open.port,
      socket: {
        data: (_, bytes) => {
          answered += bytes.length;
        },
        close: () => {
          isClosed = true;
          disconnected.resolve();
        },
        error: () => {
          isClosed = true;
        },
        connectError() {},
      },
    });
    opened++;
    const batch: Uint8Array[] = [];
    if (toClosed && random.chance(0.8)) batch.push(count("handshake", handshakeFrames(random)));
    else if (random.chance(0.98)) batch.push(count("handshake", validateFrame));
    for (let kind: FrameKind = "good"; kind === "good" && batch.length < 200; ) {
      const frame = anyFrame(random);
      kind = frame.kind;
      batch.push(count(kind, frame.bytes));
    }
    // More frames after the bad one, as from a broken client.
    if (random.chance(0.3)) batch.push(count("good", anyFrame(random).bytes));
    const bytes = Buffer.concat(batch);
    const pieces = random.chance(0.5) ? 1 : 1 + random.below(12);
    for (let piece = 0, at = 0; piece < pieces && !isClosed; piece++) {
      const end = piece === pieces - 1 ? bytes.length : at + random.below(bytes.length - at + 1);
      socket.write(bytes.subarray(at, end));
      at = end;
      // Lets the other connections run.
      await (random.chance(0.02) ? Bun.sleep(1) : Promise.resolve());
      if (random.chance(0.3)) await new Promise((resolve) => setImmediate(resolve));
    }
    // A reset discards what the server has not read: mostly it gets time to read.
    if (random.chance(0.8)) await Promise.race([disconnected.promise, Bun.sleep(3)]);
    if (isClosed) droppedByServer++;
    socket.terminate();
    if (warm === undefined && frames > total / 10) warm = [open.memoryMiB(), closed.memoryMiB()];
  }
}

/** Many connections that announce a large value each, send some of it and stop. */
async function stalled(): Promise<void> {
  const sockets: Bun.Socket<undefined>[] = [];
  for (let i = 0; i < 40; i++) {
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port: open.port,
      socket: { data() {}, error() {}, connectError() {} },
    });
    const header = Buffer.from("01 0200000000000000 2f7a 0000800000000000".replaceAll(" ", ""), "hex");
    socket.write(Buffer.concat([validateFrame, header, new Uint8Array(200_000)]));
    count("truncated", header);
    sockets.push(socket);
  }
  await Bun.sleep(200);
  for (const socket of sockets) socket.terminate();
}

function count(kind: FrameKind, bytes: Uint8Array): Uint8Array {
  frames++;
  sent[kind]++;
  return bytes;
}
