import { ReduceOp } from "../collectives/index.ts";
import { type OptionNames, requireOptionNames } from "../collectives/option-names.ts";
import { DistBackendError, describe, InvalidArgumentError, warn } from "../errors/index.ts";
import type { ProcessGroup } from "../process-group/index.ts";
import type { Work } from "../work/index.ts";

/** Number of iterations in which a rank stands in before a warning says so. */
const WARN_AFTER = 1000;

/** What a rank that has no inputs left does in place of its iterations. c10d: `JoinHook`. */
export interface JoinHook {
  /** Takes part in the collectives of one iteration of the others. */
  mainHook(): Promise<void>;
  /** Called once all ranks have joined. `isLastJoiner` says whether this rank was among the last. */
  postHook(isLastJoiner: boolean): Promise<void>;
}

/** Options of a {@link Join}. */
export interface JoinOptions {
  /** `false` if all ranks are known to have equally many inputs: nothing is done then. Default is `true`. */
  readonly enable?: boolean;
  /** Whether all ranks stop with an error when the first one has no inputs left. Default is `false`. */
  readonly throwOnEarlyTermination?: boolean;
  /** Whether gradients are divided by the world size, even if some ranks have joined. Default is `true`. */
  readonly divideByInitialWorldSize?: boolean;
}

const optionNames: OptionNames<JoinOptions> = {
  enable: true,
  throwOnEarlyTermination: true,
  divideByInitialWorldSize: true,
};

/** How a {@link Joinable} takes part; set by {@link Join}. */
export interface JoinConfig {
  readonly enable: boolean;
  readonly throwOnEarlyTermination: boolean;
  /** Whether it is the one that counts the ranks. */
  readonly isFirstJoinable: boolean;
}

/** What can take part in {@link Join}, such as a `DistributedDataParallel`. c10d: `Joinable`. */
export interface Joinable {
  /** Set by {@link Join}. */
  joinConfig: JoinConfig | undefined;
  readonly joinProcessGroup: ProcessGroup;
  joinHook(options: JoinOptions): JoinHook;
}

/**
 * Training with numbers of inputs that differ between ranks. A rank whose inputs are used up takes part in the collectives
 * of the others, with zeros, until they have none left either; then all get the model of the last one.
 *
 * ```ts
 * await new Join([ddp]).run(async () => {
 *   for (const batch of batches) await step(batch);
 * });
 * ```
 *
 * c10d: `torch.distributed.algorithms.join.Join`.
 */
export class Join {
  readonly #hooks: readonly JoinHook[];
  readonly #group: ProcessGroup;
  readonly #enable: boolean;
  readonly #throws: boolean;

  /** @throws InvalidArgumentError for no joinables, or joinables of different groups. */
  constructor(joinables: readonly Joinable[], options: JoinOptions = {}) {
    requireOptionNames("Join", options, optionNames);
    const [first] = joinables;
    if (first === undefined) {
      throw new InvalidArgumentError("The join context manager requires at least one joinable", {
        argument: "joinables",
      });
    }
    if (joinables.some(({ joinProcessGroup }) => joinProcessGroup !== first.joinProcessGroup)) {
      throw new InvalidArgumentError("Using join context manager with multiple process groups", {
        argument: "joinables",
      });
    }
    this.#enable = options.enable ?? true;
    this.#throws = options.throwOnEarlyTermination ?? false;
    this.#group = first.joinProcessGroup;
    this.#hooks = joinables.map((each) => each.joinHook(options));
    for (const [i, each] of joinables.entries()) {
      each.joinConfig = {
        enable: this.#enable,
        throwOnEarlyTermination: this.#throws,
        isFirstJoinable: i === 0,
      };
    }
  }

  /**
   * Runs the iterations of this rank, then stands in for those that it lacks.
   *
   * @returns What `body` returns.
   * @throws What `body` throws, at once; with `throwOnEarlyTermination`, InvalidArgumentError (`INPUTS_EXHAUSTED`) when a
   *   rank has no inputs left while others have.
   */
  async run<T>(body: () => T | PromiseLike<T>): Promise<T> {
    if (typeof body !== "function") {
      throw new InvalidArgumentError(`run() takes a function, got ${describe(body)}`, { argument: "body" });
    }
    const result = await body();
    if (this.#enable) await this.#standIn();
    return result;
  }

  async #standIn(): Promise<void> {
    let isLast = true;
    for (let iterations = 0; (await this.#countActive()) > 0; iterations++) {
      if (this.#throws) await this.#stopOthers();
      if (iterations === WARN_AFTER) {
        warn(
          `Detected uneven input skew of greater than ${WARN_AFTER}: rank ${this.#group.rank} has at least ${WARN_AFTER} fewer inputs than other currently-active ranks`,
          "UNEVEN_INPUTS",
        );
      }
      for (const hook of this.#hooks) await hook.mainHook();
      isLast = false;
    }
    for (const hook of this.#hooks) await hook.postHook(isLast);
  }

  /** How many ranks have inputs left. */
  async #countActive(): Promise<number> {
    const count = new Float32Array(1);
    await this.#group.allReduce(count);
    return count[0] ?? 0;
  }

  async #stopOthers(): Promise<never> {
    await this.#group.allReduce(Float32Array.of(1));
    throw new InvalidArgumentError(`Rank ${this.#group.rank} exhausted all inputs.`, {
      code: "INPUTS_EXHAUSTED",
      rank: this.#group.rank,
    });
  }

  /**
   * Tells the ranks that have joined that this one has another iteration; called at its start by a {@link Joinable}.
   *
   * @returns The op that counts the ranks with inputs, if this joinable is the one that counts; it resolves to one float32.
   * @throws InvalidArgumentError (`INPUTS_EXHAUSTED`) with `throwOnEarlyTermination` if a rank has joined.
   *
   * c10d: `Join.notify_join_context`.
   */
  static async notifyJoinContext(joinable: Joinable): Promise<{ readonly count: Work<Float32Array> } | undefined> {
    const { joinConfig, joinProcessGroup: group } = joinable;
    if (!joinConfig?.enable || !joinConfig.isFirstJoinable) return undefined;
    const count = group.allReduce(Float32Array.of(1));
    if (joinConfig.throwOnEarlyTermination) {
      const stop = new Float32Array(1);
      await group.allReduce(stop);
      if (stop[0] !== 0) {
        await count;
        throw new InvalidArgumentError("Detected at least one rank that exhausted inputs. Throwing across all ranks.", {
          code: "INPUTS_EXHAUSTED",
          rank: group.rank,
        });
      }
    }
    return { count };
  }
}

/**
 * Agrees on one of the ranks that ask for it: the largest.
 * @throws DistBackendError if no rank asks.
 */
export async function findCommonRank(group: ProcessGroup, isCandidate: boolean): Promise<number> {
  const rank = BigInt64Array.of(BigInt(isCandidate ? group.rank : -1));
  await group.allReduce(rank, { op: ReduceOp.MAX });
  const found = Number(rank[0]);
  if (found >= 0) return found;
  throw new DistBackendError("no rank has the model that all are to get", { group: group.name, rank: group.rank });
}
