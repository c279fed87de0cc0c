/** `rank 1`, or `ranks 1, 2`, for messages. */
export function ranksText(ranks: readonly number[]): string {
  return `${ranks.length === 1 ? "rank" : "ranks"} ${ranks.join(", ")}`;
}

/** The same where one of them may be the rank whose error it is: `this rank`, or `this rank and rank 1`. */
export function ranksTextOn(own: number, ranks: readonly number[]): string {
  if (!ranks.includes(own)) return ranksText(ranks);
  const others = ranks.filter((rank) => rank !== own);
  return `this rank${others.length === 0 ? "" : ` and ${ranksText(others)}`}`;
}

/** What the error of a time-out on a rank says of ranks that are missing. */
export function absenceText(own: number, ranks: readonly number[]): string {
  return `${ranksTextOn(own, ranks)} did not arrive`;
}
