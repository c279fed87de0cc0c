import { DistBackendError } from "../errors/index.ts";
import { unlessDisputed } from "../rendezvous/index.ts";
import { PrefixStore } from "../store/index.ts";
import type { Store } from "../store/store.ts";

/** Apart from what backends and PyTorch's ranks keep in the store of the group. */
const PREFIX = "bun-c10d/members";
const DISPUTE = "dispute";
/** Of a longer list only so many ranks are in a message, where it differs. */
const NAMED_RANKS = 16;

/** A group that is about to be made. */
export interface MembersPlan {
  readonly group: string;
  /** Global rank of this process. */
  readonly rank: number;
  /** Global ranks of the members, in order. */
  readonly ranks: readonly number[];
  /** Store of the group. */
  readonly store: Store;
  /** Tells the meetings of the ranks apart that one store serves: what an earlier one has left there does not count. */
  readonly meeting: string;
  readonly timeoutMs: number;
}

/** Checks that the ranks which make a group by its place in the order mean the same group: the first to come tells its members. */
export class AgreedMembers {
  readonly #plan: MembersPlan;
  readonly #store: Store;

  constructor(plan: MembersPlan) {
    this.#plan = plan;
    this.#store = new PrefixStore(`${PREFIX}/${plan.meeting}`, plan.store);
  }

  /**
   * Compares this rank's list with that of the first to come.
   * @throws DistBackendError (`DESYNC`) naming two ranks and the list of each, the same two on all ranks.
   */
  async compare(): Promise<void> {
    const { rank, ranks, timeoutMs } = this.#plan;
    // Each rank may make one of itself: it meets nobody there.
    if (ranks.length === 1) return;
    const limits = { timeout: timeoutMs };
    const own = ranks.join();
    const first = decoded(await this.#store.compareSet("first", "", `${rank}:${own}`, limits));
    if (first.slice(first.indexOf(":") + 1) === own) return;
    const both = rank < Number.parseInt(first, 10) ? `${rank}:${own};${first}` : `${first};${rank}:${own}`;
    throw this.#errorOf(decoded(await this.#store.compareSet(DISPUTE, "", both, limits)));
  }

  /** Waits for the connections of ranks whose lists agree with this one's, and gives up as soon as one disagrees. */
  whileAgreed<T>(connecting: Promise<T>): Promise<T> {
    if (this.#plan.ranks.length === 1) return connecting;
    const errorOf = (report: string) => this.#errorOf(report);
    return unlessDisputed(connecting, { store: this.#store, key: DISPUTE, errorOf });
  }

  /** @param report The lists of two ranks, as `rank:ranks;rank:ranks`. */
  #errorOf(report: string): DistBackendError {
    const { group, rank } = this.#plan;
    const [one = [], other = []] = report.split(";").map((each) => each.split(/[:,]/));
    const length = Math.min(one.length, other.length);
    const differing = one.findIndex((each, i) => i > 0 && each !== other[i]);
    const from = (differing < 0 ? length : differing) - 1;
    return new DistBackendError(
      `group "${group}" is not of the same ranks everywhere: ${listed(one, from)}, ${listed(other, from)}. All ranks of the ` +
        "job, members or not, must make the same groups in the same order",
      // Which of the two is wrong cannot be known.
      { code: "DESYNC", group, rank },
    );
  }
}

/** @param from Index of the first rank that has to be seen. */
function listed([rank, ...ranks]: readonly string[], from: number): string {
  const start = Math.max(0, Math.min(from - 2, ranks.length - NAMED_RANKS));
  const shown = ranks.slice(start, start + NAMED_RANKS).join(", ");
  const before = start > 0 ? "…, " : "";
  const after = start + NAMED_RANKS < ranks.length ? ", …" : "";
  const count = ranks.length > NAMED_RANKS ? ` (${ranks.length} in all)` : "";
  return `rank ${rank} makes it of ${before}${shown}${after}${count}`;
}

function decoded(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
