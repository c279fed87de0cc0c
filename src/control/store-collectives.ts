import { requireFlag } from "../collectives/index.ts";
import { type OptionNames, requireOptionNames } from "../collectives/option-names.ts";
import {
  brand,
  DistError,
  DistStoreError,
  DistTimeoutError,
  describe,
  InvalidArgumentError,
  messageOf,
} from "../errors/index.ts";
import type { Store, StoreCallOptions, StoreValue } from "../store/index.ts";
import { ownBytes } from "../store/store-value.ts";
import { defaultTimeoutMs, type Timeout, timeoutMs } from "../time/index.ts";

/** Limit of one control collective; 5 minutes by default. */
export interface ControlOptions {
  readonly timeout?: Timeout;
}

/** Options of {@link StoreCollectives.barrier}. */
export interface ControlBarrierOptions extends ControlOptions {
  /** Whether to wait for the other ranks (default) or only to tell them that this one has arrived. */
  readonly block?: boolean;
}

/** How long the look for missing ranks may take once a call has timed out. */
const LOOK_LIMIT_MS = 1_000;

/**
 * Collectives of small values that travel through a store alone, without connections between the ranks: for starting up
 * and for telling what went wrong. They speak PyTorch's keys, so that ranks of both may take part (up to PyTorch 2.13;
 * 2.14 has removed its own).
 *
 * Each call has a key of its own, the same on all ranks. The store keeps what was sent.
 *
 * ```ts
 * const control = new StoreCollectives(store, rank, worldSize);
 * await control.barrier("started", { timeout: "30s" });
 * const hosts = await control.allGather("hosts", hostname());
 * ```
 *
 * c10d: `_StoreCollectives`.
 */
export class StoreCollectives {
  static {
    brand(StoreCollectives, "StoreCollectives");
  }
  readonly #store: Store;
  readonly #rank: number;
  readonly #worldSize: number;
  readonly #used = new Set<string>();

  /** @throws InvalidArgumentError for a rank or world size that cannot be. */
  constructor(store: Store, rank: number, worldSize: number) {
    if (!Number.isSafeInteger(worldSize) || worldSize < 1) {
      throw new InvalidArgumentError(
        `StoreCollectives: worldSize must be a positive integer, got ${describe(worldSize)}`,
        {
          argument: "worldSize",
        },
      );
    }
    if (!Number.isSafeInteger(rank) || rank < 0 || rank >= worldSize) {
      throw new InvalidArgumentError(
        `StoreCollectives: rank must be an integer from 0 to ${worldSize - 1}, got ${describe(rank)}`,
        { argument: "rank" },
      );
    }
    this.#store = store;
    this.#rank = rank;
    this.#worldSize = worldSize;
  }

  /**
   * Waits until all ranks have called it.
   * @throws DistTimeoutError "barrier failed -- missing ranks: …". c10d: `barrier`.
   */
  async barrier(key: string, options: ControlBarrierOptions = {}): Promise<void> {
    const limits = limitsOf(options, barrierOptionNames);
    await this.#barrier(
      this.#use(key),
      limits,
      options.block === undefined || requireFlag("barrier", "block", options.block),
    );
  }

  async #barrier(key: string, limits: Limits, block: boolean): Promise<void> {
    const last = `${key}/last_members`;
    const arrived = await this.#store.add(`${key}/num_members`, 1, limits());
    await this.#store.set(`${key}/${this.#rank}`, "joined", limits());
    if (arrived === this.#worldSize) await this.#store.set(last, "<val_ignored>", limits());
    else if (block) {
      await this.#naming("barrier", this.#keys(key), () => this.#store.wait([last], limits()));
    }
  }

  /**
   * The sum of an integer over all ranks.
   * @throws InvalidArgumentError for anything but a safe integer, DistTimeoutError "barrier failed -- missing ranks: …".
   *   c10d: `all_sum`.
   */
  async allSum(key: string, data: number, options: ControlOptions = {}): Promise<number> {
    if (!Number.isSafeInteger(data)) {
      throw new InvalidArgumentError(`allSum: data must be a safe integer, got ${describe(data)}`, {
        argument: "data",
      });
    }
    const limits = limitsOf(options);
    await this.#store.add(this.#use(key), data, limits());
    await this.#barrier(this.#use(`${key}/barrier`), limits, true);
    return this.#store.add(key, 0, limits());
  }

  /** Sends data to all other ranks. c10d: `broadcast_send`. */
  async broadcastSend(key: string, data: StoreValue, options: ControlOptions = {}): Promise<void> {
    await this.#store.set(this.#use(key), data, limitsOf(options)());
  }

  /**
   * Data that another rank has sent by {@link broadcastSend}.
   * @throws DistTimeoutError of the store. c10d: `broadcast_recv`.
   */
  async broadcastRecv(key: string, options: ControlOptions = {}): Promise<Uint8Array> {
    return this.#store.get(this.#use(key), limitsOf(options)());
  }

  /** Sends data to the rank that calls {@link gatherRecv}. c10d: `gather_send`. */
  async gatherSend(key: string, data: StoreValue, options: ControlOptions = {}): Promise<void> {
    await this.#store.set(`${this.#use(key)}/${this.#rank}`, data, limitsOf(options)());
  }

  /**
   * The data of all ranks in their order, with `data` in this one's place.
   * @throws DistTimeoutError "gather failed -- missing ranks: …". c10d: `gather_recv`.
   */
  async gatherRecv(key: string, data: StoreValue, options: ControlOptions = {}): Promise<Uint8Array[]> {
    const own = ownBytes(data);
    const keys = this.#keys(this.#use(key));
    const limits = limitsOf(options);
    const others = keys.filter((_, rank) => rank !== this.#rank);
    const received = await this.#naming("gather", keys, () => this.#multiGet(others, limits()), this.#rank);
    return received.toSpliced(this.#rank, 0, own);
  }

  /**
   * Sends each rank its item; resolves to this rank's own.
   * @param data One item for each rank. c10d takes any number, and ranks without one time out.
   * @throws InvalidArgumentError for another number of items. c10d: `scatter_send`.
   */
  async scatterSend(key: string, data: readonly StoreValue[], options: ControlOptions = {}): Promise<Uint8Array> {
    if (!Array.isArray(data) || data.length !== this.#worldSize) {
      const given = Array.isArray(data) ? `${data.length} items` : describe(data);
      throw new InvalidArgumentError(
        `scatterSend: data must have one item for each of the ${this.#worldSize} ranks, got ${given}`,
        { argument: "data" },
      );
    }
    const values: Uint8Array[] = data.map(ownBytes);
    const keys = this.#keys(this.#use(key));
    const isOther = (_: unknown, rank: number) => rank !== this.#rank;
    const limits = limitsOf(options);
    if (this.#worldSize > 1) await this.#store.multiSet(keys.filter(isOther), values.filter(isOther), limits());
    return values[this.#rank] ?? new Uint8Array(0);
  }

  /**
   * The item that another rank has sent to this one by {@link scatterSend}.
   * @throws DistTimeoutError of the store. c10d: `scatter_recv`.
   */
  async scatterRecv(key: string, options: ControlOptions = {}): Promise<Uint8Array> {
    return this.#store.get(`${this.#use(key)}/${this.#rank}`, limitsOf(options)());
  }

  /**
   * The data of all ranks in their order, on all ranks.
   * @throws DistTimeoutError "all_gather failed -- missing ranks: …". c10d: `all_gather`.
   */
  async allGather(key: string, data: StoreValue, options: ControlOptions = {}): Promise<Uint8Array[]> {
    const keys = this.#keys(this.#use(key));
    const limits = limitsOf(options);
    await this.#store.set(`${key}/${this.#rank}`, data, limits());
    return this.#naming("all_gather", keys, () => this.#multiGet(keys, limits()));
  }

  async #multiGet(keys: readonly string[], limits: StoreCallOptions): Promise<Uint8Array[]> {
    return keys.length === 0 ? [] : this.#store.multiGet(keys, limits);
  }

  /** The key of each rank. */
  #keys(key: string): string[] {
    return Array.from({ length: this.#worldSize }, (_, rank) => `${key}/${rank}`);
  }

  /**
   * Marks a key as used. A second use would find the values of the first one.
   * @throws InvalidArgumentError when it was used before.
   */
  #use(key: string): string {
    if (typeof key !== "string" || key === "") {
      throw new InvalidArgumentError(`StoreCollectives: key must be a text, got ${describe(key)}`, { argument: "key" });
    }
    if (this.#used.has(key)) {
      throw new InvalidArgumentError(`Key ${key} has already been used.`, {
        code: "KEY_USED",
        argument: "key",
        keys: [key],
      });
    }
    this.#used.add(key);
    return key;
  }

  /** Runs a wait; its error names the ranks whose keys are missing. */
  async #naming<T>(what: string, keys: readonly string[], wait: () => Promise<T>, except?: number): Promise<T> {
    try {
      return await wait();
    } catch (error) {
      const look: StoreCallOptions = { timeout: LOOK_LIMIT_MS };
      const present = await Promise.all(keys.map((key) => this.#store.check([key], look).catch(() => false)));
      const peers = [...present.keys()].filter((rank) => rank !== except && !present[rank]);
      throw withMissing(what, peers, error);
    }
  }
}

function withMissing(what: string, peers: readonly number[], cause: unknown): DistError {
  const text = `${what} failed -- missing ranks: ${peers.join(", ")}, ${messageOf(cause)}`;
  const known = cause instanceof DistError ? { ...cause.details, code: cause.code } : {};
  const init = { ...known, op: what, peers, cause };
  return cause instanceof DistTimeoutError ? new DistTimeoutError(text, init) : new DistStoreError(text, init);
}

/** The options of the next call into a store. */
type Limits = () => StoreCallOptions;

const optionNames: OptionNames<ControlOptions> = { timeout: true };
const barrierOptionNames: OptionNames<ControlBarrierOptions> = { timeout: true, block: true };

/** One limit for all calls of a collective. The store's own time-out remains as it is. */
function limitsOf(options: ControlOptions, names: OptionNames<ControlOptions> = optionNames): Limits {
  requireOptionNames("StoreCollectives", options, names);
  const deadline = performance.now() + timeoutMs(options.timeout, defaultTimeoutMs.controlCollectives);
  return () => ({ timeout: Math.max(1, deadline - performance.now()) });
}
