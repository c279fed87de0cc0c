import type { DType } from "../../tensor/index.ts";
import { fillRandn, type Generator } from "../random/index.ts";
import type { Floats } from "./low-rank-products.ts";

/** Elements that PyTorch makes of as many uniform numbers at once. */
const BLOCK = 16;
const HALF = BLOCK / 2;

/**
 * Fills an array with numbers of the standard normal distribution, as PyTorch makes them for a dtype on the CPU. For
 * bfloat16 they are not rounded yet.
 */
export function fillNormal(values: Floats, dtype: DType, generator: Generator): void {
  if (values.length < BLOCK) {
    for (let i = 0; i < values.length; i++) values[i] = generator.normal();
  } else if (dtype === "float32") fillRandn(values as Float32Array, generator);
  else if (dtype === "float64") fillDouble(values as Float64Array, generator);
  else fillNarrow(values, generator);
}

function fillDouble(values: Float64Array, generator: Generator): void {
  const { length } = values;
  for (let i = 0; i < length; i++) values[i] = generator.uniformDouble();
  for (let start = 0; start + BLOCK <= length; start += BLOCK) transform(values, start);
  if (length % BLOCK === 0) return;
  for (let i = length - BLOCK; i < length; i++) values[i] = generator.uniformDouble();
  transform(values, length - BLOCK);
}

/** The method of Box and Muller. */
function transform(values: Float64Array, start: number): void {
  for (let i = start; i < start + HALF; i++) {
    const radius = Math.sqrt(-2 * Math.log(1 - (values[i] as number)));
    const angle = 2 * Math.PI * (values[i + HALF] as number);
    values[i] = radius * Math.cos(angle);
    values[i + HALF] = radius * Math.sin(angle);
  }
}

/** Of 16 bits: computed as float32, and nothing is drawn for what the last, overlapping block replaces. */
function fillNarrow(values: Floats, generator: Generator): void {
  const whole = values.length - (values.length % BLOCK);
  const numbers = new Float32Array(values.length);
  fillRandn(numbers.subarray(0, whole), generator);
  if (whole < values.length) fillRandn(numbers.subarray(values.length - BLOCK), generator);
  values.set(numbers);
}
