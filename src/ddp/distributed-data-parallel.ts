import { ReduceOp } from "../collectives/index.ts";
import { currentContext } from "../distributed/dist-context.ts";
import { addToError, DistError, describe, InvalidArgumentError } from "../errors/index.ts";
import type { ProcessGroup } from "../process-group/index.ts";
import type { TensorLike } from "../tensor/index.ts";
import { BackwardPass, type PassContext } from "./backward-pass.ts";
import { broadcastCoalesced } from "./broadcast-coalesced.ts";
import { computeBucketAssignmentBySize } from "./bucket-assignment.ts";
import type { BuiltinCommHookType, CommHook, CommHookOptions } from "./comm-hook.ts";
import type { DDPLoggingData } from "./ddp-logging-data.ts";
import { findCommonRank, Join, type Joinable, type JoinConfig, type JoinHook, type JoinOptions } from "./join.ts";
import { Logger } from "./logger.ts";
import { type Gradient, type ModelParameter, type ModelTensor, Parameter } from "./parameter.ts";
import { Reducer } from "./reducer.ts";
import { DEFAULT_BUCKET_BYTES, DEFAULT_FIRST_BUCKET_BYTES } from "./reducer-options.ts";
import { registerBuiltinCommHook, registerCommHook } from "./register-comm-hook.ts";
import { verifyModels } from "./verify-params.ts";

/** How many bytes of parameters and buffers are broadcast at a time. */
const BROADCAST_BYTES = 250 * 2 ** 20;
const MiB = 2 ** 20;

/** What {@link DistributedDataParallel} has to know of a model. */
export interface DataParallelModel {
  /** In the same order on all ranks. */
  readonly parameters: readonly TrainedParameter[];
  /** Tensors that are not trained, such as running means; all ranks get those of rank 0 in every iteration. */
  readonly buffers?: readonly ModelTensor[];
  /** For logs. By default the name of its class. */
  readonly name?: string;
}

/** A parameter of a model. */
export interface TrainedParameter extends ModelParameter {
  /** `false` for one that is only copied from rank 0, and gets no gradients. Default is `true`. */
  readonly requiresGrad?: boolean;
}

/** Options of {@link DistributedDataParallel.create}. */
export interface DataParallelOptions {
  /** The ranks that train together; by default the default group. */
  readonly group?: ProcessGroup;
  /** Whether buffers are copied from rank 0 in every iteration. Default is `true`. */
  readonly broadcastBuffers?: boolean;
  /** Whether models are compared, and copied from rank 0, at construction. Default is `true`. */
  readonly initSync?: boolean;
  /** Size of buckets in MiB. By default 25, and 1 for the first. */
  readonly bucketCapMb?: number;
  /** Sizes of the first bucket, the second and so on, in MiB. */
  readonly bucketCapMbList?: readonly number[];
  /** See `ReducerOptions`. */
  readonly findUnusedParameters?: boolean;
  /** See `ReducerOptions`. */
  readonly gradientAsBucketView?: boolean;
  /**
   * Whether every iteration uses the same parameters equally often; then parameters may be used several times or not at
   * all. The gradients of the first iteration are exchanged after its backward pass. Default is `false`.
   */
  readonly staticGraph?: boolean;
}

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
  readonly group: ProcessGroup;
  readonly reducer: Reducer;
  readonly logger: Logger;
  joinConfig: JoinConfig | undefined;
  readonly #tensors: readonly ModelTensor[];
  readonly #buffers: readonly ModelTensor[];
  readonly #indices: ReadonlyMap<string, number>;
  readonly #context: PassContext;
  readonly #findsUnused: boolean;
  #synchronises = true;
  #sharesBuffers = true;
  #dividesByWorldSize = true;

  /**
   * Compares the model with that of the other ranks, and gives all of them the parameters and buffers of rank 0.
   *
   * @throws InvalidArgumentError for a model without parameters or with two of one name, and on ranks whose models differ
   *   (`PARAMETERS_DIFFER`).
   */
  static async create(model: DataParallelModel, options: DataParallelOptions = {}): Promise<DistributedDataParallel> {
    const parameters = readParameters(model);
    const { initSync = true } = options;
    const group = options.group ?? currentContext().require().group;
    const { areAllBun } = initSync ? await verifyModels(group, parameters) : { areAllBun: false };
    const ddp = new DistributedDataParallel(model, parameters, group, options);
    if (areAllBun && canAverage(group)) ddp.reducer.averageInLibrary();
    if (initSync) await ddp.#copyModel(0);
    return ddp;
  }

  private constructor(
    model: DataParallelModel,
    parameters: readonly Parameter[],
    group: ProcessGroup,
    options: DataParallelOptions,
  ) {
    const { broadcastBuffers = true, findUnusedParameters = false, staticGraph = false } = options;
    const buffers = broadcastBuffers ? (model.buffers ?? []) : [];
    const sizes = bucketSizes(options);
    const sparse = parameters.map((each) => each.sparse);
    const [buckets, limits] = computeBucketAssignmentBySize(parameters, sizes.first, sparse);
    this.group = group;
    // The parameters of the last layers get their gradients first.
    this.reducer = new Reducer(parameters, buckets.toReversed(), limits.toReversed(), group, {
      findUnusedParameters,
      gradientAsBucketView: options.gradientAsBucketView ?? false,
      ...sizes.rebuilt,
    });
    this.logger = new Logger(this.reducer);
    this.reducer.setLogger(this.logger);
    if (staticGraph) this.reducer.setStaticGraph();
    this.logger.setConstructionDataAndLog({
      moduleName: model.name ?? describe(model),
      broadcastBuffers,
      staticGraph,
    });
    this.#tensors = [...model.parameters, ...buffers];
    this.#buffers = buffers;
    this.#indices = new Map(parameters.map(({ name }, index) => [name, index]));
    this.#findsUnused = findUnusedParameters;
    this.#context = {
      reducer: this.reducer,
      indexOf: (parameter) => this.#indexOf(parameter),
      accumulated: new Map<Parameter, TensorLike>(),
      staticGraph,
    };
  }

  /** The trained parameters, in the order of the model. */
  get parameters(): readonly Parameter[] {
    return this.reducer.parameters;
  }

  /** Whether the gradients of this iteration are exchanged: `false` in {@link noSync}. c10d: `require_backward_grad_sync`. */
  get requiresGradSync(): boolean {
    return this.#synchronises;
  }

  /**
   * One iteration: {@link forward}, `body`, and the end of the backward pass.
   *
   * @param body Computes the loss and the gradients, and gives them to `pass.ready(name, gradient)`.
   * @returns What `body` returns.
   */
  async step<T>(body: (pass: BackwardPass) => T | PromiseLike<T>): Promise<T> {
    await this.forward();
    const pass = this.backward();
    const result = await body(pass);
    await pass.finish();
    return result;
  }

  /** Begins an iteration, before the forward pass: gives all ranks the buffers of rank 0, and in the second one new buckets. */
  async forward(): Promise<void> {
    if (this.#synchronises) {
      this.logger.setRuntimeStatsAndLog();
      this.reducer.prepareForForward();
    }
    const notified = await Join.notifyJoinContext(this);
    if (notified !== undefined) {
      this.reducer.setForwardPassWorkHandle(notified.count, this.#dividesByWorldSize);
    }
    await this.reducer.rebuildBuckets();
    if (this.#mustCopyBuffers) {
      await this.#copyBuffers(this.joinConfig?.enable ? await findCommonRank(this.group, true) : 0);
    }
    if (this.joinConfig?.enable) await this.#doAllSynchronise(this.#synchronises);
    this.#sharesBuffers = this.#synchronises;
  }

  /**
   * The backward pass of this iteration; it begins with the first gradient.
   *
   * @param options `unused` names parameters that will get no gradient, if that is known, so that the others need not wait
   *   for the end of the pass. Only with `findUnusedParameters`.
   */
  backward(options: { readonly unused?: readonly (string | number)[] } = {}): BackwardPass {
    const unused = (options.unused ?? []).map((each) => this.#indexOf(each));
    return new BackwardPass(this.#context, this.#synchronises, unused);
  }

  /**
   * The gradient of a parameter after an iteration: the average over all ranks, or `undefined` if no rank has used it.
   *
   * c10d: `parameter.grad`.
   */
  gradient(parameter: string | number): Gradient | undefined {
    return this.parameters[this.#indexOf(parameter)]?.grad;
  }

  /**
   * Memory for the gradient of a parameter, from which it is sent without being copied; for `gradientAsBucketView`. Ask
   * for it in every iteration: it changes when buckets are rebuilt. Its content is that of the iteration before.
   */
  gradientBuffer(parameter: string | number): TensorLike {
    return this.reducer.gradientView(this.#indexOf(parameter));
  }

  /**
   * Iterations in `body` are not synchronised: their gradients are added up, and become part of those of the next
   * iteration outside.
   *
   * c10d: `no_sync`.
   */
  async noSync<T>(body: () => T | PromiseLike<T>): Promise<T> {
    const before = this.#synchronises;
    this.#synchronises = false;
    try {
      return await body();
    } finally {
      this.#synchronises = before;
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

  get joinProcessGroup(): ProcessGroup {
    return this.group;
  }

  joinHook(options: JoinOptions): JoinHook {
    this.logger.setUnevenInputJoin();
    this.#dividesByWorldSize = options.divideByInitialWorldSize ?? true;
    return {
      mainHook: () => this.#standIn(),
      postHook: async (isLastJoiner) => this.#copyModel(await findCommonRank(this.group, isLastJoiner)),
    };
  }

  /** Takes part in the collectives of an iteration that this rank does not have. */
  async #standIn(): Promise<void> {
    const { reducer } = this;
    await reducer.rebuildBuckets();
    if (this.#mustCopyBuffers) await this.#copyBuffers(await findCommonRank(this.group, false));
    this.#sharesBuffers = await this.#doAllSynchronise(false);
    if (!this.#sharesBuffers) return;
    for (const zeros of reducer.getZerosLikeGradBuckets()) await reducer.standIn(zeros, this.#dividesByWorldSize);
    if (this.#findsUnused) await this.group.allReduce(reducer.getLocalUsedMap().fill(0));
    reducer.pushAllRebuiltParams();
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

  async #copyBuffers(source: number): Promise<void> {
    await this.#copy(this.#buffers, source);
  }

  async #copyModel(source: number): Promise<void> {
    await this.#copy(this.#tensors, source);
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
    for (const [i, tensor] of tensors.entries()) tensor.received?.(values[i] as TensorLike);
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

/** Whether the backend of a group has an average of float32 and float64. */
function canAverage(group: ProcessGroup): boolean {
  const { table } = group.pipeline();
  return (["float32", "float64"] as const).every((dtype) => table.has("allReduce", dtype, ReduceOp.AVG));
}

function readParameters(model: DataParallelModel): Parameter[] {
  if (typeof model !== "object" || model === null || !Array.isArray(model.parameters)) {
    throw new InvalidArgumentError(`a model is { parameters: [{ name, data }, …] }, got ${describe(model)}`, {
      argument: "model",
    });
  }
  const trained = model.parameters.filter(({ requiresGrad }: TrainedParameter) => requiresGrad !== false);
  if (trained.length === 0) {
    throw new InvalidArgumentError(
      "DistributedDataParallel is not needed when a module doesn't have any parameters that require a gradient.",
      { argument: "model" },
    );
  }
  const seen = new Set<string>();
  for (const { name } of [...model.parameters, ...(model.buffers ?? [])]) {
    if (seen.has(name)) {
      throw new InvalidArgumentError(`two tensors of the model are named ${describe(name)}`, { argument: "model" });
    }
    seen.add(name);
  }
  return trained.map((each: TrainedParameter) => new Parameter(each));
}

/** Sizes of buckets in bytes: of the first iteration, and as the reducer rebuilds them. */
function bucketSizes(options: DataParallelOptions) {
  const { bucketCapMb, bucketCapMbList = [], staticGraph, findUnusedParameters } = options;
  if (bucketCapMbList.length > 0) {
    const limits = bucketCapMbList.map((mb) => Math.floor(mb * MiB));
    return { first: limits, rebuilt: { bucketBytesCapList: limits } };
  }
  const bytes = bucketCapMb === undefined ? DEFAULT_BUCKET_BYTES : Math.floor(bucketCapMb * MiB);
  const firstBytes = bucketCapMb === undefined ? DEFAULT_FIRST_BUCKET_BYTES : bytes;
  const rebuilt = { bucketBytesCap: bytes, firstBucketBytesCap: firstBytes };
  // One bucket until the order is known in which gradients come: other collectives of the pass could get between several.
  if (staticGraph || !findUnusedParameters) return { first: [Number.MAX_SAFE_INTEGER], rebuilt };
  return { first: firstBytes < bytes ? [firstBytes, bytes] : [bytes], rebuilt };
}
