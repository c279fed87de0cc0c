import { describe, InvalidArgumentError, messageOf, UnsupportedOperationError } from "../errors/index.ts";
import { bytesOnHost } from "./host-copy.ts";
import { type TensorLike, type TensorView, viewTensor } from "./tensor-view.ts";

/** Added at each combination of two hashes. */
const SALT = 0x9e3779b9n;

/**
 * A hash of the bytes of tensors, one after the other: 64 bits, the same as PyTorch's on x86-64. By it, ranks and runs
 * can be compared without their data. It covers the elements of each tensor, but neither dtype nor shape; a tensor
 * without elements does not count. Takes some milliseconds per megabyte. Tensors on a device are copied to the host first,
 * which blocks until their current stream gets there.
 *
 * ```ts
 * const hashes = await allGatherObject(hashTensors(weights)); // the same on all ranks
 * ```
 *
 * @throws InvalidArgumentError for what is not a list of tensors, UnsupportedOperationError for a tensor on a device that
 *   cannot be copied.
 *
 * c10d: `_hash_tensors`.
 */
export function hashTensors(tensors: readonly TensorLike[]): bigint {
  if (!Array.isArray(tensors)) {
    throw new InvalidArgumentError(`hashTensors: tensors must be a list of tensors, got ${describe(tensors)}`, {
      argument: "tensors",
    });
  }
  const views = tensors.map((each: TensorLike, i) => viewTensor(each, `hashTensors: tensors[${i}]`));
  return views.reduce((hash, view, i) => (view.byteLength === 0 ? hash : withBytes(hash, hostBytes(view, i))), 0n);
}

function hostBytes(view: TensorView, i: number): Uint8Array {
  try {
    return bytesOnHost(view);
  } catch (cause) {
    const { type, index } = view.device;
    const reason = `is on ${type}:${index}, and cannot be copied to host memory: ${messageOf(cause)}`;
    throw new UnsupportedOperationError(`hashTensors: tensors[${i}] ${reason}`, {
      op: "hashTensors",
      argument: `tensors[${i}]`,
      code: "NOT_HOST_MEMORY",
      cause,
    });
  }
}

const asUint64 = (value: bigint): bigint => BigInt.asUintN(64, value);

/** c10's `hash_combine`. */
const combined = (seed: bigint, value: bigint): bigint =>
  asUint64(seed ^ asUint64(value + SALT + asUint64(seed << 6n) + (seed >> 2n)));

/**
 * Combines a hash with that of each byte. Of a byte, that is the hash of the number of bytes and of the byte as a signed
 * char, of which there are 256. The rest is arithmetic in two halves, since a BigInt per byte would be a hundred times
 * slower.
 */
function withBytes(seed: bigint, bytes: Uint8Array): bigint {
  const valuesLow = new Int32Array(256);
  const valuesHigh = new Int32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    const value = asUint64(combined(BigInt(bytes.length), BigInt((byte << 24) >> 24)) + SALT);
    valuesLow[byte] = Number(BigInt.asIntN(32, value));
    valuesHigh[byte] = Number(BigInt.asIntN(32, value >> 32n));
  }
  let low = Number(BigInt.asIntN(32, seed));
  let high = Number(BigInt.asIntN(32, seed >> 32n));
  const { length } = bytes;
  for (let i = 0; i < length; i++) {
    const byte = bytes[i] as number;
    const value = valuesLow[byte] as number;
    const left = low << 6;
    const right = (low >>> 2) | (high << 30);
    const first = (value + left) | 0;
    const sum = (first + right) | 0;
    // The bit that each addition carries out of the low half.
    const carries =
      (((value & left) | ((value | left) & ~first)) >>> 31) + (((first & right) | ((first | right) & ~sum)) >>> 31);
    const sumHigh = ((valuesHigh[byte] as number) + ((high << 6) | (low >>> 26)) + (high >>> 2) + carries) | 0;
    low ^= sum;
    high ^= sumHigh;
  }
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}
