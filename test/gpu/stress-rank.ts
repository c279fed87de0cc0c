import type { CudaStream } from "../../src/index.ts";
import * as dist from "../../src/index.ts";
import type { RankContext } from "../../src/testing/index.ts";

/** What each rank of the stress test gets. */
export interface StressArguments {
  /** Of each rank. */
  readonly devices: readonly string[];
  readonly seconds: number;
  /** The same on all ranks, which draw the same numbers. */
  readonly seed: number;
}

/** What it did. */
export interface StressCounts {
  readonly rounds: number;
  readonly checks: number;
  readonly aborts: number;
}

const STREAMS = 4;
/** Rounds between two aborts. */
const ABORT_EVERY = 8;
const OPS_PER_ROUND = 12;

/** A small generator of numbers below `n`, so that all ranks draw the same. */
function generator(seed: number): (n: number) => number {
  let state = seed >>> 0 || 1;
  return (n) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % n;
  };
}

/** A rank: random ops on random streams in a group of all, and now and then a group that is aborted. */
export default async function stress({ rank, worldSize, args }: RankContext<StressArguments>): Promise<StressCounts> {
  const [deviceId = "cuda:0"] = args.devices.slice(rank);
  dist.cuda.setDevice(deviceId);
  // Bound to the device, so that the communicator is made now and not at the first op.
  await dist.initProcessGroup({ backend: "nccl", deviceId, timeout: "30s" });
  const draw = generator(args.seed);
  const streams = Array.from({ length: STREAMS }, () => new dist.cuda.CudaStream());
  const end = Date.now() + args.seconds * 1000;
  const counts = { rounds: 0, checks: 0, aborts: 0 };
  let firstBytes = 0;
  for (;;) {
    counts.checks += await round(draw, streams, rank, worldSize);
    counts.rounds++;
    if (counts.rounds % ABORT_EVERY === 1) {
      await abortGroup(draw, streams);
      counts.aborts++;
    }
    const bytes = dist.cuda.memoryStats().allocatedBytes;
    if (counts.rounds === 2 * ABORT_EVERY) firstBytes = bytes;
    if (firstBytes > 0 && bytes > firstBytes + 2 ** 24) {
      throw new Error(`memory grows: ${bytes} bytes in use after ${counts.rounds} rounds, ${firstBytes} before`);
    }
    // One rank decides for all when it is time.
    const over = new Int32Array([Date.now() > end ? 1 : 0]);
    const decision = dist.cuda.from(over);
    await dist.broadcast(decision, { src: 0 });
    const isOver = (await decision.toHost())[0] === 1;
    decision[Symbol.dispose]();
    if (isOver) break;
  }
  await dist.destroyProcessGroup();
  return counts;
}

/** Some ops at once, each on a stream of its own choice with copies before and after; returns how many were compared. */
async function round(
  draw: (n: number) => number,
  streams: readonly CudaStream[],
  rank: number,
  size: number,
): Promise<number> {
  const pending: Promise<void>[] = [];
  const n = 1 + draw(OPS_PER_ROUND);
  for (let i = 0; i < n; i++) {
    const stream = streams[draw(streams.length)];
    if (stream === undefined) throw new Error("no stream");
    const [kind, length, root] = [draw(3), 1 + draw(100_000), draw(size)];
    const own = rank * 3 + i + 1;
    pending.push(dist.cuda.withStream(stream, () => one(stream, { kind, length, root, own, i, size })));
  }
  await Promise.all(pending);
  return n;
}

interface OneOp {
  readonly kind: number;
  readonly length: number;
  readonly root: number;
  /** What this rank contributes. */
  readonly own: number;
  readonly i: number;
  readonly size: number;
}

/** An op whose input is written, and whose output is read, in the order of its stream only. Queued at once. */
async function one(stream: CudaStream, { kind, length, root, own, i, size }: OneOp): Promise<void> {
  const everyone = Array.from({ length: size }, (_, rank) => rank * 3 + i + 1);
  const sum = everyone.reduce((total, each) => total + each, 0);
  const tensor = dist.cuda.from(new Float32Array(length).fill(own));
  let result = tensor;
  let expected: readonly number[];
  let work: dist.Work<unknown>;
  if (kind === 0) {
    work = dist.allReduce(tensor);
    expected = [sum];
  } else if (kind === 1) {
    work = dist.broadcast(tensor, { src: root });
    expected = [everyone[root] ?? Number.NaN];
  } else {
    result = dist.cuda.empty("float32", length * size);
    work = dist.allGatherIntoTensor(result, tensor);
    expected = everyone;
  }
  work.synchronize();
  const copy = result.toHost({ stream });
  await work;
  const values = await copy;
  const wrong = values.findIndex((value, at) => value !== expected[Math.floor(at / length)]);
  tensor[Symbol.dispose]();
  result[Symbol.dispose]();
  if (wrong >= 0) throw new Error(`op ${i} of kind ${kind}, ${length} elements: element ${wrong} is ${values[wrong]}`);
}

/** A group that is aborted while ops are in flight: each must end, as done or as aborted, and the default group live on. */
async function abortGroup(draw: (n: number) => number, streams: readonly CudaStream[]): Promise<void> {
  const group = await dist.newGroup();
  if (group === null) throw new Error("newGroup() of all ranks gave none");
  const first = dist.cuda.from(new Float32Array(64).fill(1));
  await dist.allReduce(first, { group });
  const tensors = Array.from({ length: 6 }, () => dist.cuda.from(new Float32Array(1 + draw(300_000)).fill(1)));
  const works = tensors.map((tensor, i) => {
    const stream = streams[i % streams.length];
    if (stream === undefined) throw new Error("no stream");
    return dist.cuda.withStream(stream, () => dist.allReduce(tensor, { group }));
  });
  group.abort("the stress test ends it");
  const ends = await Promise.allSettled(works);
  for (const end of ends) {
    if (end.status === "rejected" && !(end.reason instanceof dist.DistError)) throw end.reason;
  }
  await dist.destroyProcessGroup(group).catch((error: unknown) => {
    if (!(error instanceof dist.DistError)) throw error;
  });
  for (const tensor of [first, ...tensors]) tensor[Symbol.dispose]();
}
