import { describeNumber, InvalidArgumentError } from "../../errors/index.ts";
import type { ProcessGroup } from "../../process-group/index.ts";
import { Tensor, type TensorLike } from "../../tensor/index.ts";
import { type CommHook, computing } from "../comm-hook.ts";
import { copyElements, divideElements } from "../elements.ts";
import type { GradBucket } from "../grad-bucket.ts";
import { storageOf } from "../parameter.ts";
import type { HookGroup } from "./default-hooks.ts";
import { realDTypeOf } from "./exchanged-floats.ts";
import { addDequantized, quantize, writeRange } from "./quantization.ts";

/** Elements that share a scale, in {@link quantizationPerChannelHook}. */
const CHANNEL = 512;

/**
 * Averages a bucket from bytes: each rank sends its gradients as one byte each, with the scale and the zero point that
 * they have in common. All ranks get the bytes of all others, so with many ranks more is sent than by an all-reduce.
 *
 * Two all-gathers for each bucket.
 *
 * @throws InvalidArgumentError for gradients that are sparse or complex.
 *
 * c10d: `quantization_pertensor_hook`, which needs NCCL.
 */
export const quantizationPerTensorHook: CommHook<HookGroup> = async function quantizationPerTensorHook(group, bucket) {
  const { values, store } = singlesOf("quantizationPerTensorHook", bucket);
  const { length } = values;
  store(await averaged(group ?? bucket.group, values, { channels: 1, each: length, ranges: [2], bytes: [length] }));
  return bucket.buffer();
};

/**
 * {@link quantizationPerTensorHook} with a scale and a zero point for each 512 elements, which is more accurate where
 * gradients of a bucket differ in size. The bucket is sent with zeros at its end.
 *
 * @param bucketSize Elements that share a scale, on all ranks the same.
 * @throws InvalidArgumentError for gradients that are sparse or complex, or a `bucketSize` that is no positive integer.
 *
 * c10d: `quantization_perchannel_hook`, which needs NCCL.
 */
export async function quantizationPerChannelHook(
  group: HookGroup,
  bucket: GradBucket,
  bucketSize: number = CHANNEL,
): Promise<TensorLike> {
  if (!Number.isSafeInteger(bucketSize) || bucketSize < 1) {
    throw new InvalidArgumentError(
      `quantizationPerChannelHook: bucketSize must be a positive integer, got ${describeNumber(bucketSize)}`,
      { argument: "bucketSize" },
    );
  }
  const { values, store } = singlesOf("quantizationPerChannelHook", bucket);
  // PyTorch appends a channel of zeros to a bucket without remainder.
  const channels = Math.floor(values.length / bucketSize) + 1;
  const padded = new Float32Array(channels * bucketSize);
  padded.set(values);
  const shapes = { channels, each: bucketSize, ranges: [2, channels], bytes: [channels, bucketSize] };
  store((await averaged(group ?? bucket.group, padded, shapes)).subarray(0, values.length));
  return bucket.dense();
}

for (const hook of [quantizationPerTensorHook, quantizationPerChannelHook]) computing(hook);

/** The gradients of a bucket in float32, and what writes the average there. */
function singlesOf(hook: string, bucket: GradBucket) {
  const dtype = realDTypeOf(hook, bucket);
  const storage = storageOf(bucket.dense(), "bucket");
  const isSingle = dtype === "float32";
  const values = isSingle ? (storage as Float32Array) : new Float32Array(storage.length);
  if (!isSingle) copyElements(values, "float32", storage, dtype);
  return { values, store: (average: Float32Array) => copyElements(storage, dtype, average, "float32") };
}

/** How the elements of a bucket are divided, and the shapes of the tensors that are sent. */
interface Channels {
  readonly channels: number;
  /** Number of elements of a channel. */
  readonly each: number;
  readonly ranges: readonly number[];
  readonly bytes: readonly number[];
}

/** The average over all ranks, computed from bytes. */
async function averaged(group: ProcessGroup, values: Float32Array, layout: Channels): Promise<Float32Array> {
  const { channels, each } = layout;
  const forChannels = (act: (channel: number, start: number, end: number) => void) => {
    for (let channel = 0; channel < channels; channel++) act(channel, channel * each, (channel + 1) * each);
  };
  // Scales, and behind them zero points.
  const ranges = new Float32Array(2 * channels);
  const own = { scales: ranges.subarray(0, channels), zeroPoints: ranges.subarray(channels) };
  forChannels((channel, start, end) => writeRange(values, start, end, own.scales, own.zeroPoints, channel));
  const allRanges = Array.from({ length: group.size }, () => new Float32Array(2 * channels));
  await group.allGather(
    allRanges.map((each) => new Tensor(each, "float32", layout.ranges)),
    new Tensor(ranges, "float32", layout.ranges),
  );
  const bytes = new Uint8Array(values.length);
  forChannels((channel, start, end) => {
    quantize(bytes, values, start, end, own.scales[channel] as number, own.zeroPoints[channel] as number);
  });
  const allBytes = Array.from({ length: group.size }, () => new Uint8Array(values.length));
  await group.allGather(
    allBytes.map((each) => new Tensor(each, "uint8", layout.bytes)),
    new Tensor(bytes, "uint8", layout.bytes),
  );
  const sums = new Float32Array(values.length);
  for (const [rank, received] of allBytes.entries()) {
    const theirs = allRanges[rank] as Float32Array;
    forChannels((channel, start, end) => {
      const [scale, zeroPoint] = [theirs[channel] as number, theirs[channels + channel] as number];
      addDequantized(sums, received, start, end, scale, zeroPoint);
    });
  }
  divideElements(sums, "float32", group.size);
  return sums;
}
