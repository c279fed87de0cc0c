import { DistBackendError } from "../../errors/index.ts";
import { unlessDisagreement } from "../../rendezvous/index.ts";
import { PrefixStore } from "../../store/index.ts";
import type { Store } from "../../store/store.ts";

/** Apart from what backends and PyTorch's ranks keep in the store of the group. */
const PREFIX = "bun-c10d/members";
const DISPUTE = "dispute";
/** Of a longer list only so many ranks are in a message, where it differs. */
const NAMED_RANKS = 16;

/** What a rank makes groups of that others make, too. */
export interface MembersPlan {
  /** The group, or what the parts of a split have in common. */
  readonly group: string;
  /** What the lists are, for messages: `rank 1 <verb> 0, 1 | 2, 3`. */
  readonly verb: string;
  /** This rank, by the numbers that the lists have. */
  readonly rank: number;
  /** The ranks of each group, in order. */
  readonly lists: readonly (readonly number[])[];
  /** Part of the store that all have in common who make the groups. */
  readonly store: Store;
  /** Tells the meetings of the ranks apart that one store serves: what an earlier one has left there does not count. */
  readonly meeting: string;
  readonly timeoutMs: number;
}

/**
 * Checks that the ranks which make groups at the same place in the order mean the same ones, members or not: the first to come writes
 * down what it makes them of. What a rank makes of itself alone is not compared, since it meets nobody there.
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
   * Compares this rank's list with that of the first to come.
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

  /** Waits for the connections of ranks whose lists agree with this one's, and gives up as soon as one disagrees. */
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
      { code: "DESYNC", group, rank },
    );
  }
}

/** @param from Index of the first rank that has to be seen. */
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
