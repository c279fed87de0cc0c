/** The counterpart of bench/native/gloo_bench.cc in TypeScript: a rank that takes jobs from its standard input. */
import * as dist from "../../src/index.ts";

interface Job {
  readonly mode: string;
  readonly warmUp: number;
  readonly iterations: number;
  readonly buffers: readonly Float32Array[];
}

await dist.initProcessGroup({ backend: "gloo", timeout: "30s" });
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
  const [mode = "", ...numbers] = line.split(" ");
  const [bytes = 0, warmUp = 0, iterations = 0, count = 1] = numbers.map(Number);
  // Filling touches the pages, as C++ does when it makes a vector.
  const buffers = Array.from({ length: count }, () => new Float32Array(bytes / 4).fill(0));
  return { mode, warmUp, iterations, buffers };
}

function runWaiting({ warmUp, iterations, buffers }: Job): Float64Array {
  const micros = new Float64Array(iterations);
  for (let i = 0; i < warmUp + iterations; i++) {
    const buffer = prepare(buffers, i);
    const begin = Bun.nanoseconds();
    dist.allReduce(buffer).wait();
    const end = Bun.nanoseconds();
    check(buffer, i);
    if (i >= warmUp) micros[i - warmUp] = (end - begin) / 1_000;
  }
  return micros;
}

async function runAwaiting({ warmUp, iterations, buffers }: Job): Promise<Float64Array> {
  const micros = new Float64Array(iterations);
  for (let i = 0; i < warmUp + iterations; i++) {
    const buffer = prepare(buffers, i);
    const begin = Bun.nanoseconds();
    await dist.allReduce(buffer);
    const end = Bun.nanoseconds();
    check(buffer, i);
    if (i >= warmUp) micros[i - warmUp] = (end - begin) / 1_000;
  }
  return micros;
}

/** The buffer whose turn it is, with marks by which the sum is checked; the rest of it is zero. */
function prepare(buffers: readonly Float32Array[], i: number): Float32Array {
  const buffer = buffers[i % buffers.length] as Float32Array;
  buffer[0] = buffer[buffer.length - 1] = (i % 1000) + rank;
  return buffer;
}

function check(buffer: Float32Array, i: number): void {
  const expected = (i % 1000) * size + (size * (size - 1)) / 2;
  if (buffer[0] !== expected || buffer.at(-1) !== expected) throw new Error(`wrong sum in iteration ${i}`);
}
