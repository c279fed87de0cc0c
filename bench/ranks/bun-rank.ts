/** The counterpart of bench/native/gloo_bench.cc in TypeScript: a rank that reads jobs from its standard input. */
import * as dist from "../../src/index.ts";
import type { OpKind } from "../harness/contender.ts";

interface Buffers {
  readonly whole: Float32Array;
  /** The part that one rank sends or receives; for an all-to-all, the output. */
  readonly part: Float32Array;
}

interface Job {
  readonly mode: string;
  readonly op: OpKind;
  readonly warmUp: number;
  readonly iterations: number;
  readonly buffers: readonly Buffers[];
}

/** Ops that are one Work. */
const works: Readonly<Record<Exclude<OpKind, "ping-pong">, (buffers: Buffers) => dist.Work<unknown>>> = {
  "all-reduce": ({ whole }) => dist.allReduce(whole),
  broadcast: ({ whole }) => dist.broadcast(whole, { src: 0 }),
  "all-gather": ({ whole, part }) => dist.allGatherIntoTensor(whole, part),
  "reduce-scatter": ({ whole, part }) => dist.reduceScatterTensor(part, whole),
  "all-to-all": ({ whole, part }) => dist.allToAllSingle(part, whole),
  barrier: () => dist.barrier(),
};

await dist.initProcessGroup({ backend: process.env.C10D_BENCH_BACKEND ?? "gloo", timeout: "30s" });
const rank = dist.getRank();
const size = dist.getWorldSize();
console.log(JSON.stringify({ ready: true }));
for await (const line of console) {
  const job = parse(line);
  Bun.gc(true);
  const micros = job.mode === "await" ? await runAwaiting(job) : runWaiting(job);
  console.log(JSON.stringify({ micros: Array.from(micros) }));
}
await dist.destroyProcessGroup();

function parse(line: string): Job {
  const [mode = "", op = "all-reduce", ...numbers] = line.split(" ");
  const [bytes = 0, warmUp = 0, iterations = 0, count = 1] = numbers.map(Number);
  const divided = op === "all-gather" || op === "reduce-scatter" || op === "all-to-all";
  const length = Math.max(bytes / 4, divided ? size : 1);
  const part = op === "all-to-all" ? length : Math.max(length / size, 1);
  // Filling touches the pages, as creating a vector does in C++.
  const buffers = Array.from({ length: count }, () => ({
    whole: new Float32Array(length).fill(0),
    part: new Float32Array(part).fill(0),
  }));
  return { mode, op: op as OpKind, warmUp, iterations, buffers };
}

function runWaiting({ op, warmUp, iterations, buffers }: Job): Float64Array {
  const micros = new Float64Array(iterations);
  for (let i = 0; i < warmUp + iterations; i++) {
    const pair = prepare(op, buffers, i);
    const begin = Bun.nanoseconds();
    if (op === "ping-pong") {
      if (rank === 0) dist.send(pair.whole, { dst: 1 }).wait();
      dist.recv(pair.whole, { src: 1 - rank }).wait();
      if (rank === 1) dist.send(pair.whole, { dst: 0 }).wait();
    } else {
      works[op](pair).wait();
    }
    const end = Bun.nanoseconds();
    check(op, pair.whole, i);
    if (i >= warmUp) micros[i - warmUp] = (end - begin) / 1_000;
  }
  return micros;
}

async function runAwaiting({ op, warmUp, iterations, buffers }: Job): Promise<Float64Array> {
  const micros = new Float64Array(iterations);
  for (let i = 0; i < warmUp + iterations; i++) {
    const pair = prepare(op, buffers, i);
    const begin = Bun.nanoseconds();
    if (op === "ping-pong") {
      if (rank === 0) await dist.send(pair.whole, { dst: 1 });
      await dist.recv(pair.whole, { src: 1 - rank });
      if (rank === 1) await dist.send(pair.whole, { dst: 0 });
    } else {
      await works[op](pair);
    }
    const end = Bun.nanoseconds();
    check(op, pair.whole, i);
    if (i >= warmUp) micros[i - warmUp] = (end - begin) / 1_000;
  }
  return micros;
}

/** The buffers for this iteration; those of an all-reduce have marks to check the sum, and are otherwise zero. */
function prepare(op: OpKind, buffers: readonly Buffers[], i: number): Buffers {
  const pair = buffers[i % buffers.length] as Buffers;
  if (op === "all-reduce") pair.whole[0] = pair.whole[pair.whole.length - 1] = (i % 1000) + rank;
  return pair;
}

function check(op: OpKind, buffer: Float32Array, i: number): void {
  if (op !== "all-reduce") return;
  const expected = (i % 1000) * size + (size * (size - 1)) / 2;
  if (buffer[0] !== expected || buffer.at(-1) !== expected) throw new Error(`wrong sum in iteration ${i}`);
}
