// Loops over the elements of dense tensors. Each rounds where PyTorch does, so that results have the same bits.
import { bfloat16FromNumber, type DType, dtypes, numberFromBfloat16, type TensorStorage } from "../tensor/index.ts";

/** Arrays of floats, or of the two parts of complex numbers. */
type Floats = Float32Array | Float64Array | Float16Array;

/** `length` elements from `start` on, in the same memory. */
export function partOfStorage(storage: TensorStorage, dtype: DType, start: number, length: number): TensorStorage {
  const each = dtypes[dtype].size / storage.BYTES_PER_ELEMENT;
  return storage.subarray(start * each, (start + length) * each);
}

/** Whether two arrays are the same memory. */
export function isSameMemory(a: TensorStorage, b: TensorStorage): boolean {
  return a === b || (a.buffer === b.buffer && a.byteOffset === b.byteOffset && a.byteLength === b.byteLength);
}

/** Copies elements, which are rounded if `to` has another dtype. */
export function copyElements(to: TensorStorage, toType: DType, from: TensorStorage, fromType: DType): void {
  if (toType === fromType) (to as Float32Array).set(from as Float32Array);
  else scaleElements(to, toType, from, fromType, 1);
}

/** `to` = `from` × `factor`, computed in float32, or in float64 if `from` has such elements. */
export function scaleElements(
  to: TensorStorage,
  toType: DType,
  from: TensorStorage,
  fromType: DType,
  factor: number,
): void {
  const isWide = fromType === "float64" || fromType === "complex128";
  const used = isWide ? factor : Math.fround(factor);
  if (fromType === "bfloat16") scaleFromBits(to, toType, from as Uint16Array, used);
  else if (toType === "bfloat16") scaleToBits(to as Uint16Array, from as Floats, used);
  else if (to instanceof Float32Array && from instanceof Float32Array) scaleSingle(to, from, used);
  else if (isWide) scaleDouble(to as Floats, from as Float64Array, used);
  else scaleNarrow(to as Floats, from as Floats, used);
}

/** Divides elements in place. */
export function divideElements(values: TensorStorage, dtype: DType, divisor: number): void {
  if (dtype === "bfloat16") {
    const bits = values as Uint16Array;
    for (let i = 0; i < bits.length; i++) {
      bits[i] = bfloat16FromNumber(numberFromBfloat16(bits[i] as number) / divisor);
    }
    return;
  }
  const floats = values as Floats;
  // By a power of two, a product has the same bits and takes half as long.
  if (Number.isInteger(Math.log2(divisor))) scaleInPlace(floats, 1 / divisor);
  else for (let i = 0; i < floats.length; i++) floats[i] = (floats[i] as number) / divisor;
}

/** Adds `from` to `to`, of the same dtype. */
export function addElements(to: TensorStorage, from: TensorStorage, dtype: DType): void {
  if (dtype === "bfloat16") {
    const [sums, terms] = [to as Uint16Array, from as Uint16Array];
    for (let i = 0; i < sums.length; i++) {
      sums[i] = bfloat16FromNumber(numberFromBfloat16(sums[i] as number) + numberFromBfloat16(terms[i] as number));
    }
    return;
  }
  const [sums, terms] = [to as Floats, from as Floats];
  for (let i = 0; i < sums.length; i++) sums[i] = (sums[i] as number) + (terms[i] as number);
}

// One function for each kind of loop, which is then compiled for one kind of array.

function scaleInPlace(values: Floats, factor: number): void {
  for (let i = 0; i < values.length; i++) values[i] = (values[i] as number) * factor;
}

function scaleSingle(to: Float32Array, from: Float32Array, factor: number): void {
  for (let i = 0; i < from.length; i++) to[i] = (from[i] as number) * factor;
}

function scaleDouble(to: Floats, from: Float64Array, factor: number): void {
  for (let i = 0; i < from.length; i++) to[i] = (from[i] as number) * factor;
}

/** Rounds the product to float32 before it is stored. */
function scaleNarrow(to: Floats, from: Floats, factor: number): void {
  for (let i = 0; i < from.length; i++) to[i] = Math.fround((from[i] as number) * factor);
}

function scaleToBits(to: Uint16Array, from: Floats, factor: number): void {
  for (let i = 0; i < from.length; i++) to[i] = bfloat16FromNumber((from[i] as number) * factor);
}

function scaleFromBits(to: TensorStorage, toType: DType, from: Uint16Array, factor: number): void {
  if (toType === "bfloat16") {
    const bits = to as Uint16Array;
    for (let i = 0; i < from.length; i++) bits[i] = bfloat16FromNumber(numberFromBfloat16(from[i] as number) * factor);
    return;
  }
  const floats = to as Floats;
  for (let i = 0; i < from.length; i++) floats[i] = Math.fround(numberFromBfloat16(from[i] as number) * factor);
}
