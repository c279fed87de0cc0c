import { describeNumber, InvalidArgumentError } from "../../errors/index.ts";
import type { Generator } from "./generator.ts";
import { remainder, remainder64 } from "./remainder.ts";

/** From this length on PyTorch draws 64 bits per element. */
const LONG = Math.floor(0xffff_ffff / 20);
const LONGEST = 2 ** 32;

/**
 * A random permutation of 0 … n - 1, the same as PyTorch's. It takes 4 bytes per element.
 *
 * @throws InvalidArgumentError unless `n` is an integer in 0 … 2^32, or if there is not enough memory (`OUT_OF_MEMORY`).
 *
 * c10d: `torch.randperm(n, generator=g)` on the CPU, whose elements are int64.
 */
export function randperm(n: number, generator: Generator): Uint32Array<ArrayBuffer> {
  if (!Number.isInteger(n) || n < 0 || n > LONGEST) {
    throw new InvalidArgumentError(`randperm: n must be an integer in 0 to 2^32, got ${describeNumber(n)}`, {
      argument: "n",
    });
  }
  const elements = allocate(n);
  if (n < LONG) shuffle(elements, generator);
  else shuffleLong(elements, generator);
  return elements;
}

function allocate(n: number): Uint32Array<ArrayBuffer> {
  try {
    return new Uint32Array(n);
  } catch (cause) {
    throw new InvalidArgumentError(`randperm: cannot allocate ${4 * n} bytes for ${n} elements`, {
      argument: "n",
      code: "OUT_OF_MEMORY",
      cause,
    });
  }
}

/** Each place but the last swaps with itself or one after it. */
function shuffle(elements: Uint32Array, generator: Generator): void {
  const n = elements.length;
  for (let i = 0; i < n; i++) elements[i] = i;
  for (let i = 0; i < n - 1; i++) {
    const other = i + remainder(generator.random(), n - i);
    const element = elements[i] ?? 0;
    elements[i] = elements[other] ?? 0;
    elements[other] = element;
  }
}

/** Each number comes to itself or a place before it, whose number moves to the end. Exported for its test. */
export function shuffleLong(elements: Uint32Array, generator: Generator): void {
  for (let i = 0; i < elements.length; i++) {
    const other = remainder64(generator.random(), generator.random(), i + 1);
    elements[i] = i;
    elements[i] = elements[other] ?? 0;
    elements[other] = i;
  }
}
