/**
 * Remainder of two non-negative integers, the dividend below 2^48 and the divisor at most 2^32. Above 31 bits it takes a
 * fraction of the time of `%`, and is exact: a quotient that is not an integer is farther from one than rounding moves it.
 */
export function remainder(dividend: number, divisor: number): number {
  return dividend - Math.floor(dividend / divisor) * divisor;
}

/** Remainder of 64 bits, the upper and the lower 32, without bigints; the divisor is at most 2^32. */
export function remainder64(upper: number, lower: number, divisor: number): number {
  // In steps of 16 bits, which keep each dividend below 2^48.
  const first = remainder(upper, divisor) * 0x1_0000 + (lower >>> 16);
  return remainder(remainder(first, divisor) * 0x1_0000 + (lower & 0xffff), divisor);
}
