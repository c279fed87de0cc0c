import { bytesOf, type DType, type TensorStorage } from "../tensor/index.ts";

/** Index of the first element that is a NaN, in its real or its imaginary part; -1 if there is none. */
export function indexOfNaN(data: TensorStorage, dtype: DType): number {
  switch (dtype) {
    case "float32":
      return inFloats(new Float32Array(...memoryFor(data, 4)));
    case "float64":
      return inFloats(new Float64Array(...memoryFor(data, 8)));
    case "complex64":
      return inFloats(new Float32Array(...memoryFor(data, 4))) >> 1;
    case "complex128":
      return inFloats(new Float64Array(...memoryFor(data, 8))) >> 1;
    case "float16":
      return inHalves(new Int32Array(...memoryFor(data, 4)), 0x7c00);
    case "bfloat16":
      return inHalves(new Int32Array(...memoryFor(data, 4)), 0x7f80);
    default:
      return -1;
  }
}

/** Arguments for an array of words of `size` bytes over the memory of a tensor, or over a copy with zeros behind it. */
function memoryFor(data: TensorStorage, size: number): [buffer: ArrayBufferLike, byteOffset: number, length: number] {
  const bytes = bytesOf(data);
  const length = Math.ceil(bytes.length / size);
  if (bytes.byteOffset % size === 0 && bytes.length % size === 0) return [bytes.buffer, bytes.byteOffset, length];
  const copy = new Uint8Array(length * size);
  copy.set(bytes);
  return [copy.buffer, 0, length];
}

function inFloats(numbers: Float32Array | Float64Array): number {
  // Native code, and the only search of its kind that finds a NaN; but it does not tell where.
  return numbers.includes(Number.NaN) ? numbers.findIndex(Number.isNaN) : -1;
}

/** @param infinity Bits of the infinity of a type of 16 bits: what is larger, but for the sign, is a NaN. */
function inHalves(pairs: Int32Array, infinity: number): number {
  // Two at a time: to be added to a magnitude so that that of a NaN carries into the bit of its sign.
  const carry = (0x7fff - infinity) * 0x1_0001;
  const { length } = pairs;
  for (let i = 0; i < length; i++) {
    const signs = (((pairs[i] ?? 0) & 0x7fff_7fff) + carry) & 0x8000_8000;
    if (signs !== 0) return 2 * i + ((signs & 0x8000) === 0 ? 1 : 0);
  }
  return -1;
}
