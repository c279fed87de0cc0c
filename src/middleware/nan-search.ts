import { bytesOf, type DType, dtypes, type TensorStorage } from "../tensor/index.ts";

/** Whether a dtype has a NaN. */
export function hasNaN(dtype: DType): boolean {
  const { kind } = dtypes[dtype];
  return kind === "float" || kind === "float8" || kind === "complex";
}

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
      return inWords(new Int32Array(...memoryFor(data, 4)), 16, 0x7c00);
    case "bfloat16":
      return inWords(new Int32Array(...memoryFor(data, 4)), 16, 0x7f80);
    case "float8_e4m3fn":
      return inWords(new Int32Array(...memoryFor(data, 4)), 8, 0x7e);
    case "float8_e5m2":
      return inWords(new Int32Array(...memoryFor(data, 4)), 8, 0x7c);
    default:
      return -1;
  }
}

/** Arguments for an array of words of `size` bytes over the memory of a tensor, or over a copy padded with zeros. */
function memoryFor(data: TensorStorage, size: number): [buffer: ArrayBufferLike, byteOffset: number, length: number] {
  const bytes = bytesOf(data);
  const length = Math.ceil(bytes.length / size);
  if (bytes.byteOffset % size === 0 && bytes.length % size === 0) return [bytes.buffer, bytes.byteOffset, length];
  const copy = new Uint8Array(length * size);
  copy.set(bytes);
  return [copy.buffer, 0, length];
}

function inFloats(numbers: Float32Array | Float64Array): number {
  // includes() is native and, unlike indexOf(), finds a NaN, but it does not say where.
  return numbers.includes(Number.NaN) ? numbers.findIndex(Number.isNaN) : -1;
}

/**
 * @param bits Bits of an element: 8 or 16.
 * @param largest Largest magnitude, as bits, that is not a NaN: infinity for most types.
 */
function inWords(words: Int32Array, bits: 8 | 16, largest: number): number {
  const ones = bits === 8 ? 0x0101_0101 : 0x1_0001;
  const signBit = 1 << (bits - 1);
  const magnitudes = (signBit - 1) * ones;
  // Checks a whole word at a time: added to the magnitude of a NaN, this carries into its sign bit.
  const carry = (signBit - 1 - largest) * ones;
  const { length } = words;
  for (let i = 0; i < length; i++) {
    const signs = (((words[i] ?? 0) & magnitudes) + carry) & (signBit * ones);
    if (signs !== 0) return (32 / bits) * i + Math.floor((31 - Math.clz32(signs & -signs)) / bits);
  }
  return -1;
}
