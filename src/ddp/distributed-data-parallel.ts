import { requireOptionNames } from "../collectives/option-names.ts";
import { addToError, DistError, describe, InvalidArgumentError } from "../errors/index.ts";
import type { ProcessGroup } from "../process-group/index.ts";
import type { TensorLike } from "../tensor/index.ts";
import { BackwardPass, type PassContext } from "./backward-pass.ts";
import { broadcastCoalesced } from "./broadcast-coalesced.ts";
import { computeBucketAssignmentBySize } from "./bucket-assignment.ts";
import type { BuiltinCommHookType, CommHook, CommHookOptions } from "./comm-hook.ts";
import type { DDPLoggingData } from "./ddp-logging-data.ts";
import {
  type DataParallelOptions,
  type DataParallelSettings,
  groupOf,
  readDataParallelOptions,
} from "./ddp-options.ts";
import { computesOnHost, isOnDevice, requireBackends } from "./device-limits.ts";
import { findCommonRank, Join, type Joinable, type JoinConfig, type JoinHook, type JoinOptions } from "./join.ts";
import { Logger } from "./logger.ts";
import { type DataParallelModel, type ReadModel, readModel } from "./model.ts";
import { type Compared, ModelComparison } from "./model-comparison.ts";
import type { Gradient, ModelTensor, Parameter, TensorFacts } from "./parameter.ts";
import { Reducer } from "./reducer.ts";
import { registerBuiltinCommHook, registerCommHook } from "./register-comm-hook.ts";
import { differs, verifyModels } from "./verify-params.ts";

/** How many bytes of parameters and buffers are broadcast at a time. */
const BROADCAST_BYTES = 250 * 2 ** 20;

/**
 * Trains a model on many ranks: each computes gradients for its own part of the data, and all step by the average. A
 * model is a list of named tensors; whatever computes gradients calls `ready` for each.
 *
 * ```ts
 * const ddp = await DistributedDataParallel.create({ parameters: [{ name: "weight", data: weight }] });
 * for (const batch of batches) {
 *   await ddp.step((pass) => {
 *     const gradient = gradientOf(weight, batch);
 *     pass.ready("weight", gradient);
 *   });
 *   update(weight, ddp.gradient("weight"));
 * }
 * ```
 *
 * c10d: `torch.nn.parallel.DistributedDataParallel`, with the same collectives on the wire: ranks of PyTorch and of Bun
 * can train one model. All ranks must construct it, and then begin iterations equally often (or use {@link join}).
 */
export class DistributedDataParallel implements Joinable {
  readonly reducer: Reducer;
  readonly logger: Logger;
  joinConfig: JoinConfig | undefined;
  readonly #tensors: readonly ModelTensor[];
  readonly #buffers: readonly ModelTensor[];
  readonly #facts: readonly TensorFacts[];
  readonly #indices: ReadonlyMap<string, number>;
  readonly #context: PassContext;
  /** Of the models at construction, until the hooks have been compared in the first iteration. */
  #comparison: ModelComparison | undefined;
  #comparesHooks: ModelComparison | undefined;
  /** Whether {@link forward} has begun an iteration that has no backward pass yet. */
  #isForward = false;
  /** How many {@link noSync} are running. */
  #localDepth = 0;
  #sharesBuffers = true;
  #dividesByWorldSize = true;

  /**
   * Compares the model with that of the other ranks, and gives all of them the parameters and buffers of rank 0.
   *
   * @throws InvalidArgumentError for a model without parameters or with two of one name, for a group without a backend for
   *   the devices of its tensors, and on ranks whose models differ (`PARAMETERS_DIFFER`).
   */
  static async create(model: DataParallelModel, options: DataParallelOptions = {}): Promise<DistributedDataParallel> {
    const settings = readDataParallelOptions(options);
    const read = readModel(model, settings.broadcastBuffers);
    const { group, initSync, findUnusedParameters, staticGraph, broadcastBuffers, firstLimits } = settings;
    requireBackends(group, read.facts);
    const comparison = initSync
      ? await verifyModels(group, read.trained, {
          frozen: read.frozen,
          buffers: read.buffers,
          options: { findUnusedParameters, staticGraph, broadcastBuffers, bucketSizes: firstLimits.join(" ") },
        })
      : undefined;
    const ddp = new DistributedDataParallel(read, settings, comparison);
    ddp.reducer.averageInLibrary(comparison?.areAllBun === true);
    if (initSync) await ddp.#copy(read.tensors, 0);
    return ddp;
  }

  private constructor(
    { name, trained, facts, tensors, bufferTensors }: ReadModel,
    settings: DataParallelSettings,
    comparison: ModelComparison | undefined,
  ) {
    const { group, findUnusedParameters, gradientAsBucketView, staticGraph, broadcastBuffers } = settings;
    const sparse = trained.map((each) => each.sparse);
    const [buckets, limits] = computeBucketAssignmentBySize(trained, settings.firstLimits, sparse);
    // The parameters of the last layers get their gradients first.
    this.reducer = new Reducer(trained, buckets.toReversed(), limits.toReversed(), group, {
      findUnusedParameters,
      gradientAsBucketView,
      ...settings.rebuilt,
    });
    this.logger = new Logger(this.reducer);
    this.reducer.setLogger(this.logger);
    if (staticGraph) this.reducer.setStaticGraph();
    this.logger.setConstructionDataAndLog({ moduleName: name, broadcastBuffers, staticGraph });
    this.#tensors = tensors;
    this.#buffers = bufferTensors;
    this.#facts = facts;
    this.#indices = new Map(trained.map((each, index) => [each.name, index]));
    this.#context = {
      reducer: this.reducer,
      indexOf: (parameter) => this.#indexOf(parameter),
      accumulated: new Map<Parameter, TensorLike>(),
      staticGraph,
      finished: () => this.#compareHooks(),
    };
    this.#comparison = comparison;
  }

  /** The ranks that train together. */
  get group(): ProcessGroup {
    return this.reducer.group;
  }

  /** The trained parameters, in the order of the model. */
  get parameters(): readonly Parameter[] {
    return this.reducer.parameters;
  }

  /** Whether the gradients of this iteration are exchanged: `false` in {@link noSync}. c10d: `require_backward_grad_sync`. */
  get requireBackwardGradSync(): boolean {
    return this.#localDepth === 0;
  }

  /**
   * One iteration: {@link forward}, `body`, and the end of the backward pass.
   *
   * @param body Computes the loss and the gradients, and gives them to `pass.ready(name, gradient)`.
   * @returns What `body` returns.
   */
  async step<T>(body: (pass: BackwardPass) => T | PromiseLike<T>): Promise<T> {
    if (typeof body !== "function") {
      throw new InvalidArgumentError(`step() takes a function, got ${describe(body)}`, { argument: "body" });
    }
    await this.forward();
    const pass = this.backward();
    let result: T;
    try {
      result = await body(pass);
    } catch (error) {
      pass.abandon(error);
      throw error;
    }
    await pass.finish();
    return result;
  }

  /**
   * Begins an iteration, before the forward pass: gives all ranks the buffers of rank 0, and in the second one new buckets.
   *
   * @throws UnsupportedOperationError for gradients on a device that neither a hook nor the library averages.
   */
  async forward(): Promise<void> {
    if (this.requireBackwardGradSync) {
      this.reducer.requireDivision();
      this.logger.setRuntimeStatsAndLog();
      this.reducer.prepareForForward();
    }
    const notified = await Join.notifyJoinContext(this);
    if (notified !== undefined) {
      this.reducer.setForwardPassWorkHandle(notified.count, this.#dividesByWorldSize);
    }
    if (this.requireBackwardGradSync && this.#comparison !== undefined) {
      const hook: Compared = ["communication hook", this.reducer.hookName ?? "none"];
      this.#comparesHooks = new ModelComparison(this.group, [hook], this.#comparison, "hook");
      this.#comparison = undefined;
      await this.#comparesHooks.publish();
    }
    await this.reducer.rebuildBuckets();
    if (this.#mustCopyBuffers) {
      await this.#copy(this.#buffers, this.joinConfig?.enable ? await findCommonRank(this.group, true) : 0);
    }
    if (this.joinConfig?.enable) await this.#doAllSynchronise(this.requireBackwardGradSync);
    this.#sharesBuffers = this.requireBackwardGradSync;
    this.#isForward = true;
  }

  /**
   * The backward pass of this iteration; it begins with the first gradient.
   *
   * @param options `unused` names parameters that will get no gradient, if that is known, so that the others need not wait
   *   for the end of the pass. Only with `findUnusedParameters`.
   */
  backward(options: { readonly unused?: readonly (string | number)[] } = {}): BackwardPass {
    requireOptionNames("backward()", options, { unused: true });
    const unused = (options.unused ?? []).map((each) => this.#indexOf(each));
    if (unused.length > 0 && !this.reducer.settings.findUnusedParameters) {
      throw new InvalidArgumentError("backward(): parameters can be unused only with findUnusedParameters: true", {
        argument: "unused",
      });
    }
    if (!this.#isForward) {
      throw new InvalidArgumentError("backward(): an iteration begins with `await forward()`, on all ranks", {
        code: "FORWARD_MISSING",
      });
    }
    this.#isForward = false;
    return new BackwardPass(this.#context, this.requireBackwardGradSync, unused);
  }

  /**
   * The gradient of a parameter after an iteration: the average over all ranks, or `undefined` if no rank has used it. In
   * {@link noSync} and until the next iteration outside, what this rank has added up.
   *
   * c10d: `parameter.grad`.
   */
  gradient(parameter: string | number): Gradient | undefined {
    const found = this.parameters[this.#indexOf(parameter)];
    return found && (this.#context.accumulated.get(found) ?? found.grad);
  }

  /**
   * Memory for the gradient of a parameter, from which it is sent without being copied; for `gradientAsBucketView`. Ask
   * for it in every iteration: it changes when buckets are rebuilt. Its content is that of the iteration before.
   */
  gradientBuffer(parameter: string | number): TensorLike {
    if (!this.reducer.settings.gradientAsBucketView) {
      throw new InvalidArgumentError("gradientBuffer(): create the model with gradientAsBucketView: true");
    }
    return this.reducer.gradientView(this.#indexOf(parameter));
  }

  /**
   * Iterations in `body` are not synchronised: their gradients are added up, and become part of those of the next
   * iteration outside.
   *
   * @throws UnsupportedOperationError for a model with parameters on a device, which this library cannot add on: add their
   *   gradients up where they are computed, and give the sum in one iteration.
   *
   * c10d: `no_sync`.
   */
  async noSync<T>(body: () => T | PromiseLike<T>): Promise<T> {
    const remote = this.parameters.find(isOnDevice);
    if (remote !== undefined) {
      const remedy =
        "gradients cannot be added up; add them where they are computed, and give the sum in one iteration";
      throw computesOnHost("noSync()", remote, remedy);
    }
    this.#localDepth++;
    try {
      return await body();
    } finally {
      this.#localDepth--;
    }
  }

  /**
   * Runs iterations whose number may differ between ranks. See {@link Join}, which can be used for several models.
   *
   * c10d: `join`.
   */
  join<T>(body: () => T | PromiseLike<T>, options: JoinOptions = {}): Promise<T> {
    return new Join([this], options).run(body);
  }

  /** Lets a hook exchange gradients. See `registerCommHook`. c10d: `register_comm_hook`. */
  registerCommHook<S>(state: S, hook: CommHook<S>, options?: CommHookOptions): void {
    registerCommHook(this.reducer, state, hook, options);
  }

  /** c10d: `_register_builtin_comm_hook`. */
  registerBuiltinCommHook(type: BuiltinCommHookType): void {
    registerBuiltinCommHook(this.reducer, type);
  }

  /** Figures of this training. c10d: `_get_ddp_logging_data`. */
  getDdpLoggingData(): DDPLoggingData {
    return this.logger.getDdpLoggingData();
  }

  /**
   * Forgets an iteration that failed, and what {@link noSync} has added up. To be called on all ranks; if the group has
   * failed, followed by {@link updateProcessGroup}. c10d: `Reducer._reset_state`.
   */
  resetState(): void {
    this.#isForward = false;
    this.#context.accumulated.clear();
    this.reducer.resetState();
  }

  /**
   * Trains with other ranks from now on, such as those that are left. Between iterations; the model must be the same on
   * all of them. c10d: `_update_process_group`.
   */
  updateProcessGroup(group: ProcessGroup): void {
    const [before, now] = [this.group, groupOf(group)];
    requireBackends(now, this.#facts);
    this.reducer.updateProcessGroup(now);
    // Of ranks that were not there before, it is not known that they are Bun's.
    const areKnown = now.globalRanks.every((rank) => before.globalRanks.includes(rank));
    this.reducer.averageInLibrary(this.reducer.averagesInLibrary && areKnown);
  }

  get joinProcessGroup(): ProcessGroup {
    return this.group;
  }

  /** @throws UnsupportedOperationError if gradients on a device are to be divided by the number of ranks that are left. */
  joinHook(options: JoinOptions): JoinHook {
    const remote = this.parameters.find(isOnDevice);
    if (remote !== undefined && options.divideByInitialWorldSize === false) {
      throw computesOnHost(
        "join() with divideByInitialWorldSize: false",
        remote,
        "only the library can divide gradients, by the world size; leave the option out",
      );
    }
    this.logger.setUnevenInputJoin();
    this.#dividesByWorldSize = options.divideByInitialWorldSize ?? true;
    return {
      mainHook: () => this.#standIn(),
      postHook: async (isLastJoiner) => this.#copy(this.#tensors, await findCommonRank(this.group, isLastJoiner)),
    };
  }

  /** After the first iteration: a hook on some ranks only may have exchanged something that the others did not. */
  async #compareHooks(): Promise<void> {
    const different = await this.#comparesHooks?.difference();
    this.#comparesHooks = undefined;
    if (different === undefined) return;
    const error = differs(
      this.group,
      different.rank,
      `DDP expects the same hook on all ranks, but ${different.difference}`,
    );
    this.reducer.fail(error);
    throw error;
  }

  /** Takes part in the collectives of an iteration that this rank does not have. */
  async #standIn(): Promise<void> {
    await this.reducer.rebuildBuckets();
    if (this.#mustCopyBuffers) await this.#copy(this.#buffers, await findCommonRank(this.group, false));
    this.#sharesBuffers = await this.#doAllSynchronise(false);
    if (!this.#sharesBuffers) return;
    // Of several models, only the first one is told how many ranks are left.
    const isCounted = this.joinConfig?.isFirstJoinable === true;
    await this.reducer.standIn(this.#dividesByWorldSize || !isCounted);
  }

  /** Whether any rank synchronises the gradients of this iteration. */
  async #doAllSynchronise(own: boolean): Promise<boolean> {
    const count = Float32Array.of(own ? 1 : 0);
    await this.group.allReduce(count);
    return count[0] !== 0;
  }

  get #mustCopyBuffers(): boolean {
    return this.#sharesBuffers && this.#buffers.length > 0;
  }

  async #copy(tensors: readonly ModelTensor[], source: number): Promise<void> {
    const values = tensors.map(({ data }) => data);
    try {
      await broadcastCoalesced(this.group, values, BROADCAST_BYTES, source);
    } catch (error) {
      if (error instanceof DistError) addToError(error, `while copying the model from rank ${source}`);
      throw error;
    }
    if (this.group.rank === source) return;
    for (const [i, tensor] of tensors.entries()) await tensor.received?.(values[i] as TensorLike);
  }

  #indexOf(parameter: string | number): number {
    const index = typeof parameter === "number" ? parameter : this.#indices.get(parameter);
    if (index !== undefined && this.parameters[index] !== undefined) return index;
    const names = this.parameters.slice(0, 20).map(({ name }) => name);
    throw new InvalidArgumentError(
      `there is no parameter ${describe(parameter)}; there are ${names.join(", ")}${this.parameters.length > 20 ? " …" : ""}`,
      { argument: "parameter" },
    );
  }
}
