/** `rank 1`, or `ranks 1, 2`, for messages. */
export function ranksText(ranks: readonly number[]): string {
  return `${ranks.length === 1 ? "rank" : "ranks"} ${ranks.join(", ")}`;
}
