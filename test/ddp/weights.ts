type Weights = Readonly<Record<string, Float32Array>>;

/** The largest absolute difference between two sets of weights of the same names; Infinity if one is not a number. */
export function largestDifference(a: Weights, b: Weights): number {
  const names = Object.keys(a);
  if (names.length === 0 || String(names) !== String(Object.keys(b))) return Number.POSITIVE_INFINITY;
  const differences = names.flatMap((name) => {
    const [one, other] = [a[name] ?? [], b[name] ?? []];
    if (one.length !== other.length) return [Number.POSITIVE_INFINITY];
    return Array.from(one, (value, i) => Math.abs(value - (other[i] ?? Number.NaN)));
  });
  return differences.some(Number.isNaN) ? Number.POSITIVE_INFINITY : differences.reduce((x, y) => Math.max(x, y), 0);
}

/** The bits of weights. */
export function bitsOf(weights: Weights): Record<string, string> {
  return Object.fromEntries(
    Object.entries(weights).map(([name, { buffer, byteOffset, byteLength }]) => {
      return [
        name,
        new Bun.CryptoHasher("sha256").update(new Uint8Array(buffer, byteOffset, byteLength)).digest("hex"),
      ];
    }),
  );
}

/** How many numbers there are. */
export function countOf(weights: Weights): number {
  return Object.values(weights).reduce((sum, { length }) => sum + length, 0);
}
