import { describe, InvalidArgumentError } from "../../errors/index.ts";
import type { Generator } from "./generator.ts";

/** Elements that are made of as many uniform numbers at once. */
const BLOCK = 16;
const HALF = BLOCK / 2;
const TWO_PI = Math.fround(2 * Math.PI);

/**
 * Float32 numbers of the standard normal distribution, those that PyTorch makes on the CPU: the generator is left in the
 * same state, and the numbers are equal but for rounding. They differ by less than 1e-6, absolute below 1 and relative
 * above, from those of PyTorch's AVX2 and AVX-512 code; PyTorch's other code differs from that by up to 3e-6.
 *
 * @param shape Number of elements, or the sizes of the dimensions; the result is flat, in row-major order.
 * @throws InvalidArgumentError for invalid sizes, or more than can be allocated (`OUT_OF_MEMORY`).
 *
 * c10d: `torch.randn(shape, generator=g)`.
 */
export function randn(shape: number | readonly number[], generator: Generator): Float32Array<ArrayBuffer> {
  const sizes: unknown = typeof shape === "number" ? [shape] : shape;
  if (!Array.isArray(sizes)) refuse(`shape must be a number of elements or a list of sizes, got ${describe(sizes)}`);
  if (!sizes.every((size) => Number.isSafeInteger(size) && size >= 0)) {
    refuse(`shape [${sizes.map(String).join(", ")}] has a size that is not a non-negative integer`);
  }
  const numbers = allocate(sizes.reduce((product: number, size: number) => product * size, 1));
  fillRandn(numbers, generator);
  return numbers;
}

/**
 * Writes the numbers of {@link randn} into an array.
 *
 * @throws InvalidArgumentError for anything but a Float32Array.
 *
 * c10d: `tensor.normal_(generator=g)` of a contiguous tensor.
 */
export function fillRandn(numbers: Float32Array, generator: Generator): void {
  if (!(numbers instanceof Float32Array)) {
    throw new InvalidArgumentError(`fillRandn: it takes a Float32Array, got ${describe(numbers)}`, {
      argument: "numbers",
    });
  }
  const { length } = numbers;
  if (length < BLOCK) {
    for (let i = 0; i < length; i++) numbers[i] = generator.normal();
    return;
  }
  for (let i = 0; i < length; i++) numbers[i] = generator.uniform();
  for (let start = 0; start + BLOCK <= length; start += BLOCK) transform(numbers, start);
  if (length % BLOCK === 0) return;
  // The last block overlaps the one before it, with new numbers.
  for (let i = length - BLOCK; i < length; i++) numbers[i] = generator.uniform();
  transform(numbers, length - BLOCK);
}

/** The method of Box and Muller on a block of uniform numbers: radii from its first half, angles from the second. */
function transform(numbers: Float32Array, start: number): void {
  for (let i = start; i < start + HALF; i++) {
    // Rounded where PyTorch rounds: a radius makes an error of the angle several times as large.
    const radius = Math.fround(Math.sqrt(Math.fround(-2 * Math.fround(Math.log(1 - (numbers[i] ?? 0))))));
    const angle = Math.fround(TWO_PI * (numbers[i + HALF] ?? 0));
    numbers[i] = radius * Math.cos(angle);
    numbers[i + HALF] = radius * Math.sin(angle);
  }
}

function allocate(length: number): Float32Array<ArrayBuffer> {
  try {
    return new Float32Array(length);
  } catch (cause) {
    throw new InvalidArgumentError(`randn: cannot allocate ${4 * length} bytes`, {
      argument: "shape",
      code: "OUT_OF_MEMORY",
      cause,
    });
  }
}

function refuse(reason: string): never {
  throw new InvalidArgumentError(`randn: ${reason}`, { argument: "shape" });
}
