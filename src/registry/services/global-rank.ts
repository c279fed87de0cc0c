import { describeNumber, InvalidArgumentError } from "../../errors/index.ts";

/** Set by the user; `undefined` until then. */
let chosen: number | undefined;
/** Rank in the default group of this process, while there is one. */
let ofGroup: number | undefined;

/**
 * Sets the rank that log messages of this process carry, as `[rank3]: ` in front of each line on stderr. `undefined` or
 * -1: none. `initProcessGroup()` sets it to the rank in the default group for as long as that exists; what is set here
 * applies before and after, and for a process without a group, such as a data loader.
 *
 * ```ts
 * setGlobalRank(Number(process.env.RANK));
 * ```
 *
 * @throws InvalidArgumentError if `rank` is not an integer of at least -1.
 *
 * c10d: `_set_global_rank`.
 */
export function setGlobalRank(rank: number | undefined): void {
  if (rank !== undefined && !(Number.isSafeInteger(rank) && rank >= -1)) {
    throw new InvalidArgumentError(
      `setGlobalRank: rank must be an integer of at least 0, or -1 for none, got ${describeNumber(rank)}`,
      { argument: "rank" },
    );
  }
  chosen = rank === -1 ? undefined : rank;
}

/** Sets the rank in the default group of this process; `undefined` when the group ends. */
export function groupRank(rank: number | undefined): void {
  ofGroup = rank;
}

/** `[rank3]: `, or nothing while the rank of this process is not known. */
export function rankPrefix(): string {
  const rank = ofGroup ?? chosen;
  return rank === undefined ? "" : `[rank${rank}]: `;
}
