/** A rank that reads jobs of bench/ddp.ts from its standard input; its counterpart in PyTorch is ddp_rank.py. */
import { type BackwardPass, DistributedDataParallel } from "../../src/ddp/index.ts";
import * as dist from "../../src/index.ts";
import type { DdpJob, DdpWay } from "../ddp.ts";

/** What a way does in an iteration. `mark` is what this rank contributes to both ends of each gradient. */
type Iteration = (mark: number) => unknown;

/** An iteration, and the gradients that hold averages after it. */
interface Prepared {
  readonly run: Iteration;
  readonly gradients: () => readonly Float32Array[];
  readonly ddp?: DistributedDataParallel;
}

const group = await dist.initProcessGroup({ backend: "gloo", timeout: "30s" });
group.enableCollectivesTiming();

async function measure(job: DdpJob) {
  const { run, gradients, ddp } = await prepare[job.way](job);
  const micros: number[] = [];
  const hidden: number[] = [];
  for (let i = 0; i < job.warmUp + job.iterations; i++) {
    const mark = i % 1000;
    // Ranks begin together, as in a training whose steps they end together.
    await group.barrier();
    const began = Bun.nanoseconds();
    await run(mark + group.rank);
    const ended = Bun.nanoseconds();
    const expected = mark + (group.size - 1) / 2;
    for (const gradient of job.way === "compute" ? [] : gradients()) {
      if (gradient[0] !== expected || gradient.at(-1) !== expected) throw new Error(`wrong average in iteration ${i}`);
    }
    if (i < job.warmUp) continue;
    micros.push((ended - began) / 1_000);
    if (ddp !== undefined) {
      const { hidden: before, waited } = ddp.reducer.timer.times;
      hidden.push(before / (before + waited));
    }
  }
  return { micros, hidden };
}

const prepare: Readonly<Record<DdpWay, (job: DdpJob) => Prepared | Promise<Prepared>>> = {
  /** Only the computing. */
  compute: (job) => ({
    run: () => {
      for (let layer = 0; layer < job.layers; layer++) compute(job);
    },
    gradients: () => [],
  }),
  /** By hand: one flat gradient, and one all-reduce after the backward pass. */
  flat: (job) => {
    const { layers, bytes } = job;
    const whole = dist.empty("float32", bytes / 4).fill(0);
    const parts = Array.from({ length: layers }, (_, layer) => partOf(whole, layer, layers));
    return {
      run: (mark) => {
        for (const gradient of parts) {
          compute(job);
          setMark(gradient, mark);
        }
        return group.allReduce(whole, { op: dist.ReduceOp.AVG });
      },
      gradients: () => parts,
    };
  },
  /** DDP, with gradients that are computed in its buckets. */
  ddp: async (job) => {
    const { ddp, names } = await model(job);
    const gradients = () => names.map((name) => ddp.gradientBuffer(name) as Float32Array);
    for (const gradient of gradients()) gradient.fill(0);
    const give = (pass: BackwardPass, name: string, mark: number) => {
      compute(job);
      const gradient = ddp.gradientBuffer(name) as Float32Array;
      setMark(gradient, mark);
      pass.ready(name, gradient);
    };
    return {
      run: (mark) =>
        ddp.step((pass) => {
          for (const name of names) give(pass, name, mark);
        }),
      gradients,
      ddp,
    };
  },
  /** DDP, with gradients in memory of their own, from which they are copied. */
  given: async (job) => {
    const { ddp, names } = await model(job);
    const given = new Map(names.map((name) => [name, new Float32Array(job.bytes / 4 / job.layers).fill(0)]));
    return {
      run: (mark) =>
        ddp.step((pass) => {
          for (const [name, gradient] of given) {
            compute(job);
            setMark(gradient, mark);
            pass.ready(name, gradient);
          }
        }),
      gradients: () => names.map((name) => ddp.gradientBuffer(name) as Float32Array),
      ddp,
    };
  },
};

/** Gradients come in the order of `names`: those of the last parameter first. */
async function model({ layers, bytes, bucketCapMb }: DdpJob) {
  const parameters = Array.from({ length: layers }, (_, layer) => ({
    name: `layer ${layer}`,
    data: new Float32Array(bytes / 4 / layers),
  }));
  const options = bucketCapMb === undefined ? {} : { bucketCapMb };
  const ddp = await DistributedDataParallel.create({ parameters }, { gradientAsBucketView: true, ...options });
  return { ddp, names: parameters.map(({ name }) => name).reverse() };
}

function partOf(whole: Float32Array, part: number, parts: number): Float32Array {
  return whole.subarray((whole.length * part) / parts, (whole.length * (part + 1)) / parts);
}

function setMark(gradient: Float32Array, mark: number): void {
  gradient[0] = gradient[gradient.length - 1] = mark;
}

/** On a core, work that takes so long while nothing else needs it; elsewhere, waiting for a device that computes. */
function compute({ computeMs, on }: DdpJob): void {
  if (computeMs === 0) return;
  if (on === "core") work(Math.round(computeMs * loopsPerMs));
  else Bun.sleepSync(computeMs);
}

function work(loops: number): number {
  let x = 1;
  for (let i = 0; i < loops; i++) x = Math.sqrt(x + i);
  return x;
}

/** The speed of the fastest of some tries, on the slowest rank. */
async function calibrate(): Promise<number> {
  const loops = 200_000;
  let fastest = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 50; i++) {
    const began = performance.now();
    work(loops);
    fastest = Math.min(fastest, performance.now() - began);
  }
  const speed = Float64Array.of(loops / fastest);
  await group.allReduce(speed, { op: dist.ReduceOp.MIN });
  return speed[0] ?? Number.NaN;
}

const loopsPerMs = await calibrate();
console.log(JSON.stringify({ ready: true }));
for await (const line of console) {
  if (line === "") break;
  const job = JSON.parse(line) as DdpJob;
  Bun.gc(true);
  console.log(JSON.stringify(await measure(job)));
}
await group.close();
