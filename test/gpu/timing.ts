import type { CudaTensor } from "../../src/index.ts";
import * as dist from "../../src/index.ts";

/** Operations that nccl-tests measures, by their names here. */
export const timedOps = ["allReduce", "allGather", "reduceScatter", "broadcast"] as const;
export type TimedOp = (typeof timedOps)[number];

/** How long one op took, as rank 0 of `ranks` measured it. */
export interface Timing {
  readonly op: TimedOp;
  /** nccl-tests' size: of the larger of input and output. */
  readonly bytes: number;
  readonly us: number;
}

/** Times the ops of parts/bandwidth.py with this library, in the same way. All ranks of the default group call it. */
export async function timeOps(sizes: readonly number[], limitSeconds: number): Promise<Timing[]> {
  const timings: Timing[] = [];
  for (const op of timedOps) {
    for (const bytes of sizes) {
      const { call, tensors } = prepared(op, bytes / 4);
      await seconds(call, 2);
      const once = await agreed((await seconds(call, 3)) / 3);
      const share = limitSeconds / sizes.length / timedOps.length;
      const count = Math.min(200, Math.max(3, Math.floor(share / Math.max(once, 1e-7))));
      timings.push({ op, bytes, us: (await agreed((await seconds(call, count)) / count)) * 1e6 });
      for (const tensor of tensors) tensor[Symbol.dispose]();
    }
  }
  return timings;
}

interface PreparedOp {
  readonly call: () => dist.Work<unknown>;
  readonly tensors: readonly CudaTensor[];
}

function prepared(op: TimedOp, elements: number): PreparedOp {
  const size = dist.getWorldSize();
  const ones = (count: number) => dist.cuda.from(new Float32Array(Math.max(1, count)).fill(1));
  if (op === "allReduce" || op === "broadcast") {
    const tensor = ones(elements);
    const call = () => (op === "allReduce" ? dist.allReduce(tensor) : dist.broadcast(tensor, { src: 0 }));
    return { call, tensors: [tensor] };
  }
  const each = Math.max(1, Math.floor(elements / size));
  const [part, whole] = [ones(each), ones(each * size)];
  const tensors = [part, whole];
  if (op === "allGather") return { call: () => dist.allGatherIntoTensor(whole, part), tensors };
  return { call: () => dist.reduceScatterTensor(part, whole), tensors };
}

/** Seconds for `count` calls, all queued before the last is waited for. */
async function seconds(call: () => dist.Work<unknown>, count: number): Promise<number> {
  const start = performance.now();
  const works: dist.Work<unknown>[] = [];
  for (let i = 0; i < count; i++) works.push(call());
  // They end in their order.
  works.at(-1)?.wait();
  const took = (performance.now() - start) / 1000;
  for (const work of works) work.wait();
  return took;
}

/** The largest value of any rank, so that all make the same number of calls. */
async function agreed(value: number): Promise<number> {
  using tensor = dist.cuda.from(new Float64Array([value]));
  await dist.allReduce(tensor, { op: dist.ReduceOp.MAX });
  return (await tensor.toHost())[0] ?? Number.NaN;
}
