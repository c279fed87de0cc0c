import { DistBackendError } from "../../errors/index.ts";
import type { BackendContext } from "../../registry/index.ts";
import type { NativeBackend } from "../native/native-backend.ts";

/** Name of the default group, the first that a process joins. */
const DEFAULT_GROUP = "0";
/** When to look, in milliseconds after the group connected: a PyTorch rank shows its debug level right after that. */
const SOON_MS = [0, 10, 40, 120];
const LATER_MS = [400, 1_000, 2_500, 6_000];

type Context = Pick<BackendContext, "store" | "rank" | "size" | "groupName" | "timeoutMs" | "logger">;

/**
 * Guards against PyTorch ranks with TORCH_DISTRIBUTED_DEBUG=DETAIL. They connect all ranks a second time to compare
 * every op. Only PyTorch's ranks can take part in that; they would wait for this rank until their time-out.
 */
export class DebugDetailGuard {
  readonly #context: Context;
  readonly #marked: Promise<void>;

  /** Marks this rank in the store as one of ours. */
  constructor(context: Context) {
    this.#context = context;
    this.#marked = this.#needed() ? context.store.set(markOf(context.rank), "1", this.#limits) : Promise.resolve();
    this.#marked.catch(() => {});
  }

  /**
   * To be called when the group is connected. Looks for a while, and then keeps looking while the group is used: a
   * PyTorch rank that is found late fails the group.
   * @throws DistBackendError (`PEER_DEBUG_DETAIL`), naming the rank.
   */
  async check(backend: NativeBackend): Promise<void> {
    if (!this.#needed()) return;
    await this.#marked;
    const foreign = await this.#foreignRanks();
    if (foreign.length === 0) return;
    const error = await this.#look(foreign, SOON_MS, Bun.sleep, () => true);
    if (error !== undefined) throw error;
    void this.#goOnLooking(backend, foreign);
  }

  async #goOnLooking(backend: NativeBackend, foreign: readonly number[]): Promise<void> {
    try {
      const error = await this.#look(foreign, LATER_MS, unrefSleep, () => backend.state === "OPEN");
      if (error === undefined) return;
      this.#context.logger.error(error.message);
      backend.abort(error.message);
    } catch {
      // The store is gone, and with it anything to be found there.
    }
  }

  /** The limit of the group, not that of the store, which may be longer. */
  get #limits(): { readonly timeout: number } {
    return { timeout: this.#context.timeoutMs };
  }

  #needed(): boolean {
    return this.#context.groupName === DEFAULT_GROUP && this.#context.size > 1;
  }

  /** The ranks that are not ours. */
  async #foreignRanks(): Promise<number[]> {
    const { store, size } = this.#context;
    const ranks = Array.from({ length: size }, (_, rank) => rank);
    if (await store.check(ranks.map(markOf), this.#limits)) return [];
    const ours = await Promise.all(ranks.map((rank) => store.check([markOf(rank)], this.#limits)));
    return ranks.filter((rank) => !ours[rank]);
  }

  async #look(
    foreign: readonly number[],
    moments: readonly number[],
    sleep: (ms: number) => Promise<void>,
    wanted: () => boolean,
  ): Promise<DistBackendError | undefined> {
    const { store, groupName, rank } = this.#context;
    const began = performance.now();
    for (const moment of moments) {
      await sleep(Math.max(0, moment - (performance.now() - began)));
      if (!wanted()) return undefined;
      for (const peer of foreign) {
        if (!(await store.check([`pg_wrapper:${groupName}/0/${peer}`], this.#limits))) continue;
        return new DistBackendError(
          `gloo: rank ${peer} runs PyTorch with TORCH_DISTRIBUTED_DEBUG=DETAIL, which only PyTorch's ranks can take part in; ` +
            "set it to INFO or OFF on all Python ranks",
          { backend: "gloo", group: groupName, rank, peers: [peer], code: "PEER_DEBUG_DETAIL" },
        );
      }
    }
    return undefined;
  }
}

const markOf = (rank: number): string => `bun-c10d/${rank}`;

/** Does not keep the process alive. */
function unrefSleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
