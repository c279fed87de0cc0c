import { DistBackendError } from "../../errors/index.ts";
import { unlessDisagreement } from "../../rendezvous/index.ts";
import { PrefixStore } from "../../store/index.ts";
import type { Store } from "../../store/store.ts";

/** Separate from the keys of backends and PyTorch's ranks in the store of the group. */
const PREFIX = "bun-c10d/members";
const DISPUTE = "dispute";
/** Longer lists are cut to this many ranks in messages, around the difference. */
const NAMED_RANKS = 16;

/** The groups that a rank is about to make, together with others. */
export interface MembersPlan {
  /** Name of the group, or the common prefix of the names of a split's parts. */
  readonly group: string;
  /** What the lists are, for messages: `rank 1 <verb> 0, 1 | 2, 3`. */
  readonly verb: string;
  /** This rank, in the numbering of the lists. */
  readonly rank: number;
  /** The ranks of each group, in order. */
  readonly lists: readonly (readonly number[])[];
  /** Part of the store that is shared by all ranks that make the groups. */
  readonly store: Store;
  /** Identifies the meeting of the ranks, since one store may serve several: keys of an earlier one are ignored. */
  readonly meeting: string;
  readonly timeoutMs: number;
}

/**
 * Checks that ranks that make groups at the same place in the order make the same ones, members or not: the first rank
 * to arrive writes down its lists. A group of this rank alone is not compared, since no other rank takes part in it.
 */
export class AgreedMembers {
  readonly #plan: MembersPlan;
  readonly #store: Store;
  readonly #isAlone: boolean;

  constructor(plan: MembersPlan) {
    const { rank, lists } = plan;
    this.#plan = plan;
    const own = lists.find((ranks) => ranks.includes(rank)) ?? lists.flat();
    this.#isAlone = own.length === 1;
    this.#store = new PrefixStore(`${PREFIX}/${plan.meeting}`, plan.store);
  }

  /**
   * Compares this rank's list with that of the first rank to arrive.
   * @throws DistBackendError (`DESYNC`) naming two ranks and the list of each, the same two on all ranks.
   */
  async compare(): Promise<void> {
    const { rank, lists, timeoutMs } = this.#plan;
    if (this.#isAlone) return;
    const limits = { timeout: timeoutMs };
    const own = lists.map((ranks) => ranks.join()).join(",|,");
    const first = decoded(await this.#store.compareSet("first", "", `${rank}:${own}`, limits));
    if (first.slice(first.indexOf(":") + 1) === own) return;
    const both = rank < Number.parseInt(first, 10) ? `${rank}:${own};${first}` : `${first};${rank}:${own}`;
    throw this.#errorOf(decoded(await this.#store.compareSet(DISPUTE, "", both, limits)));
  }

  /** Waits for the connections while the ranks' lists agree, and gives up as soon as one disagrees. */
  whileAgreed<T>(connecting: Promise<T>): Promise<T> {
    if (this.#isAlone) return connecting;
    const errorOf = (report: string) => this.#errorOf(report);
    return unlessDisagreement(connecting, { store: this.#store, key: DISPUTE, errorOf });
  }

  /** @param report The lists of two ranks, as `rank:ranks;rank:ranks`. */
  #errorOf(report: string): DistBackendError {
    const { group, verb, rank } = this.#plan;
    const [one = [], other = []] = report.split(";").map((each) => each.split(/[:,]/));
    const length = Math.min(one.length, other.length);
    const differing = one.findIndex((each, i) => i > 0 && each !== other[i]);
    const from = (differing < 0 ? length : differing) - 1;
    return new DistBackendError(
      `group "${group}": rank ${one[0]} ${verb} ${listed(one, from)}, rank ${other[0]} ${verb} ${listed(other, from)}. All ranks, ` +
        "members or not, must make the same groups in the same order",
      // Which of the two is wrong cannot be known.
      { code: "DESYNC", group, rank, peers: [] },
    );
  }
}

/** @param from Index of the first rank that must be shown. */
function listed([_, ...ranks]: readonly string[], from: number): string {
  const start = Math.max(0, Math.min(from - 2, ranks.length - NAMED_RANKS));
  const shown = ranks
    .slice(start, start + NAMED_RANKS)
    .join(", ")
    .replaceAll(", |,", " |");
  const before = start > 0 ? "…, " : "";
  const after = start + NAMED_RANKS < ranks.length ? ", …" : "";
  const count = ranks.length > NAMED_RANKS ? ` (${ranks.filter((rank) => rank !== "|").length} in all)` : "";
  return `${before}${shown}${after}${count}`;
}

function decoded(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
