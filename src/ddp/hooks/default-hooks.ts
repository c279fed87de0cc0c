import { ReduceOp } from "../../collectives/index.ts";
import type { ProcessGroup } from "../../process-group/index.ts";
import { type DType, empty, SparseTensor, type TensorLike, viewTensor } from "../../tensor/index.ts";
import { type CommHook, computing, pipelined } from "../comm-hook.ts";
import { computesOnHost, isOnDevice, ranksThatAverage } from "../device-limits.ts";
import { copyElements, divideElements, scaleElements } from "../elements.ts";
import type { GradBucket } from "../grad-bucket.ts";
import { type Gradient, type Parameter, storageOf } from "../parameter.ts";
import { scaledSparse } from "../sparse-gradient.ts";
import { startedNow } from "../started-now.ts";
import { realDTypeOf } from "./exchanged-floats.ts";

/** State of hooks that need nothing but a group: by default that of the bucket. */
export type HookGroup = ProcessGroup | null | undefined;

/**
 * Averages a bucket by an all-reduce of the gradients divided by the number of ranks: what happens without a hook. To be
 * used inside other hooks. c10d: `allreduce_hook`.
 */
export const allReduceHook: CommHook<HookGroup> = pipelined(function allReduceHook(group, bucket) {
  return averaged(group ?? bucket.group, bucket);
});

/**
 * Averages a bucket as float16, which halves what is sent. Each gradient is rounded to 11 bits; from 65520 on it becomes
 * infinite, and below 3e-8 × ranks zero. It is divided by the number of ranks before the sum, which can therefore overflow
 * only by rounding, for gradients close to 65504 on all ranks. Refuses sparse and complex gradients. c10d: `fp16_compress_hook`.
 */
export const fp16CompressHook: CommHook<HookGroup> = pipelined(function fp16CompressHook(group, bucket) {
  return averagedAs("float16", group ?? bucket.group, bucket);
});

/** Averages a bucket as bfloat16: as few bits as float16, with the range of float32. c10d: `bf16_compress_hook`. */
export const bf16CompressHook: CommHook<HookGroup> = pipelined(function bf16CompressHook(group, bucket) {
  return averagedAs("bfloat16", group ?? bucket.group, bucket);
});

for (const hook of [fp16CompressHook, bf16CompressHook]) computing(hook);

/** Leaves every rank its own gradients, to measure what communication costs. c10d: `noop_hook`. */
export const noopHook: CommHook = pipelined(async function noopHook(_state, bucket) {
  return bucket.buffer();
});

async function averaged(group: ProcessGroup, bucket: GradBucket): Promise<Gradient> {
  const buffer = bucket.buffer();
  if (buffer instanceof SparseTensor) return await group.allReduce(scaledSparse(buffer, group.size));
  if (isOnDevice(bucket)) return await averagedByLibrary(group, bucket, buffer);
  const { dtype } = viewTensor(buffer);
  divideElements(storageOf(buffer, "buffer"), dtype, group.size);
  return await startedNow(group.allReduce(buffer));
}

/** Other ranks that call this hook have to do so, too. */
function averagedByLibrary(group: ProcessGroup, bucket: GradBucket, buffer: TensorLike): PromiseLike<Gradient> {
  if (bucket.averagesInLibrary) return startedNow(group.allReduce(buffer, { op: ReduceOp.AVG }));
  const [parameter] = bucket.parameters();
  throw computesOnHost(
    "allReduceHook",
    parameter as Parameter,
    `only the library can divide gradients, ${ranksThatAverage}`,
  );
}

async function averagedAs(dtype: DType, group: ProcessGroup, bucket: GradBucket): Promise<Gradient> {
  realDTypeOf(`a hook of ${dtype}`, bucket);
  const buffer = bucket.dense();
  const own = viewTensor(buffer);
  const values = storageOf(buffer, "buffer");
  const sent: TensorLike = empty(dtype, own.length);
  const compressed = storageOf(sent, "buffer");
  // Rounded twice, as PyTorch does.
  copyElements(compressed, dtype, values, own.dtype);
  divideElements(compressed, dtype, group.size);
  await startedNow(group.allReduce(sent));
  scaleElements(values, own.dtype, compressed, dtype, 1);
  return buffer;
}
