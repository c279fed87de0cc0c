import { DEFAULT_GROUP, DistBackendError, messageOf, ranksText } from "../../errors/index.ts";
import type { Backend, BackendContext, BackendPlugin, BackendRegistry } from "../../registry/index.ts";

/** When to look, in milliseconds after the group connected: a PyTorch rank shows its debug level right after that. */
const SOON_MS = [0, 10, 40, 120];
const LATER_MS = [400, 1_000, 2_500, 6_000];

type Context = Pick<BackendContext, "store" | "rank" | "size" | "groupName" | "timeoutMs" | "logger">;

/**
 * Guards against ranks of which only some have the debug level DETAIL. Those connect all ranks a second time, to compare
 * every collective; ranks without it would let them wait until their time-out.
 */
export class DebugLevelGuard {
  readonly #context: Context;
  readonly #backend: string;
  readonly #isDetail: boolean;
  readonly #marked: Promise<void>;

  /**
   * Marks this rank in the store of the group as one of ours with its level. To be made before the group is connected.
   * @param backend Name of the plugin.
   * @param isDetail Whether this rank is going to compare its collectives.
   */
  constructor(context: Context, backend: string, isDetail: boolean) {
    this.#context = context;
    this.#backend = backend;
    this.#isDetail = isDetail;
    this.#marked = this.#needed()
      ? context.store.set(markOf(context.rank, this.#isDetail), "1", this.#limits)
      : Promise.resolve();
    this.#marked.catch(() => {});
  }

  /**
   * To be called when the group is connected. Without DETAIL, in the default group on Gloo, it looks for PyTorch's ranks that have it for a while, and
   * then keeps looking while the group is used: one that is found late fails the group. With DETAIL, PyTorch's ranks
   * without it are found when they do not connect a second time.
   * @throws DistBackendError (`PEER_DEBUG_DETAIL`), naming the ranks.
   */
  async check(backend: Backend): Promise<void> {
    if (!this.#needed()) return;
    await this.#marked;
    const { error: difference, foreign } = await this.#compare();
    if (difference !== undefined) throw difference;
    if (foreign.length === 0) return;
    if (this.#isDetail || this.#backend !== "gloo" || this.#context.groupName !== DEFAULT_GROUP) return;
    const error = await this.#look(foreign, SOON_MS, Bun.sleep, () => true);
    if (error !== undefined) throw error;
    void this.#goOnLooking(backend, foreign);
  }

  /**
   * Why the group could not be connected, if other ranks have the other level: they gave up when they noticed. Never
   * rejects.
   */
  async difference(): Promise<DistBackendError | undefined> {
    if (!this.#needed()) return undefined;
    return this.#compare().then(
      ({ error }) => error,
      () => undefined,
    );
  }

  /** The error if some of our ranks have the other level, and the ranks that are not ours. */
  async #compare(): Promise<{ readonly error?: DistBackendError; readonly foreign: readonly number[] }> {
    const others = await this.#unmarked(this.#ranks, this.#isDetail);
    if (others.length === 0) return { foreign: [] };
    const foreign = await this.#unmarked(others, !this.#isDetail);
    const differing = others.filter((rank) => !foreign.includes(rank));
    return differing.length > 0 ? { error: this.#levelsDiffer(differing), foreign } : { foreign };
  }

  async #goOnLooking(backend: Backend, foreign: readonly number[]): Promise<void> {
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
    return this.#context.size > 1;
  }

  get #ranks(): readonly number[] {
    return Array.from({ length: this.#context.size }, (_, rank) => rank);
  }

  /** Those of some ranks that are not ours, or have the other level. */
  async #unmarked(ranks: readonly number[], isDetail: boolean): Promise<number[]> {
    const { store } = this.#context;
    const keys = ranks.map((rank) => markOf(rank, isDetail));
    if (await store.check(keys, this.#limits)) return [];
    const marked = await Promise.all(keys.map((key) => store.check([key], this.#limits)));
    return ranks.filter((_, i) => !marked[i]);
  }

  #levelsDiffer(peers: readonly number[]): DistBackendError {
    const { groupName, rank } = this.#context;
    const [here, there] = this.#isDetail ? ["with", "without"] : ["without", "with"];
    return new DistBackendError(
      `group "${groupName}" (${this.#backend}): this rank (${rank}) runs ${here} TORCH_DISTRIBUTED_DEBUG=DETAIL, ${ranksText(peers)} ${there} it: set the same ` +
        "level on all ranks",
      { backend: this.#backend, group: groupName, rank, peers, code: "PEER_DEBUG_DETAIL" },
    );
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
          `gloo: rank ${peer} runs PyTorch with TORCH_DISTRIBUTED_DEBUG=DETAIL and compares each collective with the other ` +
            `ranks, but this rank (${rank}) does not: set the same level on all ranks`,
          { backend: "gloo", group: groupName, rank, peers: [peer], code: "PEER_DEBUG_DETAIL" },
        );
      }
    }
    return undefined;
  }
}

/**
 * The container's Gloo, over which ranks of this backend compare their collectives at debug level DETAIL. `undefined` if
 * it cannot run here.
 */
export async function glooFor(
  plugin: BackendPlugin,
  { logger }: Pick<BackendContext, "logger">,
  registry: BackendRegistry,
): Promise<BackendPlugin | undefined> {
  if (plugin.name === "gloo") return plugin;
  try {
    return await registry.require("gloo");
  } catch (error) {
    logger.warn(
      "TORCH_DISTRIBUTED_DEBUG is DETAIL, but Gloo, over which the ranks would compare their collectives, is not " +
        `available: they are not compared (${messageOf(error)})`,
    );
    return undefined;
  }
}

/**
 * Whether ranks of this backend connect a second time at debug level DETAIL: not for one rank alone, on backends that
 * c10d does not wrap (MPI), and on `fake`, whose ranks share a process.
 */
export function isCompared({ name, bootstrap }: BackendPlugin, { size }: Pick<BackendContext, "size">): boolean {
  return size > 1 && bootstrap !== "self" && name !== "fake";
}

const markOf = (rank: number, isDetail: boolean): string => `bun-c10d/${rank}${isDetail ? "/detail" : ""}`;

/** Does not keep the process alive. */
function unrefSleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
