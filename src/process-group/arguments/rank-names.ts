import { InvalidArgumentError } from "../../errors/index.ts";

/** Options that name a rank, by its global rank or its group rank. */
export interface RankOptions {
  readonly src?: number | undefined;
  readonly groupSrc?: number | undefined;
  readonly dst?: number | undefined;
  readonly groupDst?: number | undefined;
}

/** The ranks of a group, each with its group rank and its global rank. */
export class RankNames {
  readonly group: string;
  /** Rank of this process in the group. */
  readonly rank: number;
  /** Global rank of each rank of the group. */
  readonly globalRanks: readonly number[];

  constructor(group: string, rank: number, globalRanks: readonly number[]) {
    this.group = group;
    this.rank = rank;
    this.globalRanks = globalRanks;
  }

  get size(): number {
    return this.globalRanks.length;
  }

  globalRankOf(groupRank: number): number {
    return this.globalRanks[groupRank] ?? -1;
  }

  /** @throws InvalidArgumentError for ranks that are not in the group. */
  groupRankOf(globalRank: number): number {
    const rank = this.globalRanks.indexOf(globalRank);
    if (rank >= 0) return rank;
    throw new InvalidArgumentError(`global rank ${globalRank} is not part of group "${this.group}"`, {
      group: this.group,
      argument: "rank",
    });
  }

  /** The group rank that a pair of options such as `src` and `groupSrc` names. */
  rankFrom(op: string, argument: "src" | "dst", options: RankOptions): number {
    const global = options[argument];
    const inGroup = argument === "src" ? options.groupSrc : options.groupDst;
    if ((global === undefined) === (inGroup === undefined)) {
      const other = argument === "src" ? "groupSrc" : "groupDst";
      throw new InvalidArgumentError(`${op}: give exactly one of ${argument} (global rank) and ${other}`, {
        op,
        argument,
      });
    }
    const rank = inGroup ?? this.globalRanks.indexOf(global ?? -1);
    if (Number.isInteger(rank) && rank >= 0 && rank < this.size) return rank;
    const given = inGroup === undefined ? `global rank ${global}` : `group rank ${inGroup}`;
    throw new InvalidArgumentError(
      `${op}: ${given} is not in group "${this.group}", whose global ranks are ${this.globalRanks.join(", ")}`,
      { op, argument, group: this.group },
    );
  }

  /** {@link rankFrom} for a rank other than this one. */
  otherNamedBy(op: string, argument: "src" | "dst", options: RankOptions): number {
    const rank = this.rankFrom(op, argument, options);
    if (rank !== this.rank) return rank;
    throw new InvalidArgumentError(`${op}: ${argument} is the rank of this process itself`, { op, argument });
  }
}
