const bits = (value: bigint): bigint => BigInt.asUintN(64, value);
const magnitude = (value: bigint): bigint => {
  const signed = BigInt.asIntN(64, value);
  return signed < 0n ? -signed : signed;
};

/** Color of the ranks that are in no part of a split. NCCL: `NCCL_SPLIT_NOCOLOR`. */
export const NO_COLOR = -1;

/**
 * The color by which the members of a new group are split from the default one: PyTorch's, so that its ranks can be among
 * them. That is Python's hash of the tuple of their global ranks. c10d: `_process_group_color`.
 */
export function colorOfNewGroup(ranks: readonly number[]): number {
  // The constants of xxHash.
  const [p1, p2, p5] = [11_400_714_785_074_694_791n, 14_029_467_366_897_019_727n, 2_870_177_450_012_600_261n];
  let hash = p5;
  for (const rank of ranks) {
    hash = bits(hash + BigInt(rank) * p2);
    hash = bits((hash << 31n) | (hash >> 33n));
    hash = bits(hash * p1);
  }
  hash = bits(hash + (BigInt(ranks.length) ^ p5 ^ 3_527_539n));
  return Number(magnitude(hash) % 2n ** 31n);
}

/**
 * The color of a part of `splitGroup`, by its ranks in the group that is split: PyTorch's. c10d: `genNcclSplitColor`.
 */
export function colorOfPart(ranks: readonly number[]): number {
  let hash = 0n;
  for (const rank of ranks) hash ^= bits(BigInt(rank) + 0x9e3779b9n + (hash << 6n) + (hash >> 2n));
  return Number(magnitude(hash) % (2n ** 31n - 1n));
}
