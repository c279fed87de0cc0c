/** Numbers that a byte can have. */
const LARGEST = 255;
/** Smallest scale: that of gradients which are all zeros. */
const SMALLEST_SCALE = 2 ** -23;

/**
 * Scale and zero point that map the numbers between the least and the largest one, and 0, to bytes: of those numbers
 * from `start` on, written to element `to` of `scales` and of `zeroPoints`.
 *
 * c10d: `calculate_qparams` of `MinMaxObserver`.
 */
export function writeRange(
  values: Float32Array,
  start: number,
  end: number,
  scales: Float32Array,
  zeroPoints: Float32Array,
  to: number,
): void {
  let [least, most] = [0, 0];
  for (let i = start; i < end; i++) {
    const value = values[i] as number;
    // NaN stays NaN: all ranks shall get it.
    least = Math.min(least, value);
    most = Math.max(most, value);
  }
  const scale = Math.max(Math.fround(Math.fround(most - least) / LARGEST), SMALLEST_SCALE);
  const zeroPoint = -rounded(Math.fround(least / Math.fround(scale)));
  scales[to] = scale;
  zeroPoints[to] = zeroPoint > 0 ? Math.min(zeroPoint, LARGEST) : 0;
}

/** Maps numbers to bytes. */
export function quantize(
  bytes: Uint8Array,
  values: Float32Array,
  start: number,
  end: number,
  scale: number,
  zeroPoint: number,
): void {
  for (let i = start; i < end; i++) {
    const level = rounded(Math.fround((values[i] as number) / scale)) + zeroPoint;
    bytes[i] = level > 0 ? Math.min(level, LARGEST) : 0;
  }
}

/** Adds the numbers that bytes stand for, in float32. */
export function addDequantized(
  sums: Float32Array,
  bytes: Uint8Array,
  start: number,
  end: number,
  scale: number,
  zeroPoint: number,
): void {
  for (let i = start; i < end; i++) {
    sums[i] = (sums[i] as number) + Math.fround(scale * ((bytes[i] as number) - zeroPoint));
  }
}

/** The nearest integer; the even one of two. */
function rounded(value: number): number {
  const nearest = Math.round(value);
  return nearest - value === 0.5 && nearest % 2 !== 0 ? nearest - 1 : nearest;
}
