/** `rank 1`, or `ranks 1, 2`, for messages. */
export function ranksText(ranks: readonly number[]): string {
  return `${ranks.length === 1 ? "rank" : "ranks"} ${ranks.join(", ")}`;
}

/** What the error of a time-out says of ranks that are missing. */
export function absenceText(ranks: readonly number[]): string {
  return `${ranksText(ranks)} did not arrive`;
}
