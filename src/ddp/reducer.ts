import { addToError, DistError, describe, InvalidArgumentError, messageOf } from "../errors/index.ts";
import type { ProcessGroup } from "../process-group/index.ts";
import { type DType, isDType, type TensorLike, viewTensor } from "../tensor/index.ts";
import { Bucket } from "./bucket.ts";
import { computeBucketAssignmentBySize } from "./bucket-assignment.ts";
import { BucketTable } from "./bucket-table.ts";
import { type CommHook, type CommHookOptions, needsHost } from "./comm-hook.ts";
import { computesOnHost, isOnDevice } from "./device-limits.ts";
import { Exchanges } from "./exchanges.ts";
import type { GradBucket } from "./grad-bucket.ts";
import { IterationTimer } from "./iteration-timer.ts";
import type { Logger } from "./logger.ts";
import { CopyStreams } from "./memory/copy-stream.ts";
import type { Gradient, Parameter } from "./parameter.ts";
import {
  abandonedError,
  brokenError,
  graphChangedError,
  type NamedIndex,
  readyTwiceError,
  unexpectedError,
  unfinishedError,
} from "./reducer-errors.ts";
import { type ReducerOptions, type ReducerSettings, readReducerOptions } from "./reducer-options.ts";
import { RegisteredHook } from "./registered-hook.ts";
import { syncBucketIndices } from "./sync-bucket-indices.ts";

/** What a logger shows of a reducer. */
export interface ReducerFacts {
  /** In bytes. */
  readonly bucketSizes: readonly number[];
  /** For each bucket, the size in bytes at which it was full. */
  readonly bucketLimits: readonly number[];
  readonly hasRebuilt: boolean;
  readonly bucketsReduced: number;
  readonly unused: readonly number[];
  readonly lastReadyOrder: readonly number[];
}

/**
 * Averages the gradients of all ranks while a backward pass still computes others. Gradients are collected in buckets;
 * a bucket is all-reduced when all of its gradients are there and the buckets before it have been started, so all ranks
 * exchange them in the same order.
 *
 * An iteration is `prepareForForward()`, `await rebuildBuckets()`, the forward pass, `prepareForBackward()`,
 * `autogradHook(index)` for each parameter whose gradient has been set, and `await finalizeBackward()`.
 * `DistributedDataParallel` does all this.
 *
 * c10d: `Reducer`, with the same collectives on the wire.
 */
export class Reducer {
  readonly parameters: readonly Parameter[];
  readonly settings: ReducerSettings;
  /** Times of the current iteration. */
  readonly timer = new IterationTimer();
  readonly #streams = new CopyStreams();
  readonly #buckets: BucketTable;
  readonly #exchanges: Exchanges;
  #limits: readonly number[];
  #logger: Logger | undefined;
  #reductionType: DType | undefined;
  #optimizerInBackward = false;
  #hooksRemoved = false;

  #staticGraph = false;
  #iterations = 0;
  /** Whether the first pass of a static graph has ended, in which it is counted how often parameters are used. */
  #hasCountedUses = false;
  #sampleRate = 100;
  #hasRebuilt = false;
  /** The parameters in the order in which they became ready, until the buckets have been rebuilt from it. */
  #readyOrder: number[] = [];
  #lastReadyOrder: number[] = [];
  #bucketsReduced = 0;
  #graphIsStatic = true;

  #expectsHooks = false;
  #mustFinalize = false;
  #broken: unknown;
  #nextBucket = 0;
  #ready = new Set<number>();
  #unused: readonly number[] = [];
  #previousUnused: readonly number[] = [];
  #hasMarkedUnused = false;
  /** How often each parameter became ready in the first iteration of a static graph, and how often it still will. */
  readonly #uses: number[];
  #usesLeft: number[] = [];
  readonly #stats: number[];
  /** For each parameter, 1 if a rank has used it: this one, and after the exchange any. */
  readonly #usedMap: Int32Array;
  #installed: readonly PromiseLike<unknown>[] = [];
  /**
   * @param parameters In the same order on all ranks.
   * @param bucketIndices For each bucket, the indices of its parameters, as from `computeBucketAssignmentBySize`.
   * @param bucketLimits For each bucket, the limit in bytes under which it was filled; shown in logs.
   * @throws InvalidArgumentError for buckets that do not hold each parameter once, or that mix dtypes.
   */
  constructor(
    parameters: readonly Parameter[],
    bucketIndices: readonly (readonly number[])[],
    bucketLimits: readonly number[],
    group: ProcessGroup,
    options: ReducerOptions = {},
  ) {
    if (!Array.isArray(parameters) || parameters.length === 0) {
      throw new InvalidArgumentError("Expected at least one parameter.", { argument: "parameters" });
    }
    this.parameters = [...parameters];
    this.settings = readReducerOptions(options, this.parameters);
    this.#buckets = new BucketTable(this.parameters, this.settings, this.#streams);
    this.#exchanges = new Exchanges(group);
    this.#limits = [...bucketLimits];
    this.#uses = parameters.map(() => 0);
    this.#stats = parameters.map(() => 0);
    this.#usedMap = new Int32Array(new SharedArrayBuffer(4 * parameters.length));
    this.#buckets.assign(bucketIndices, undefined);
  }

  /** The group whose ranks average their gradients. */
  get group(): ProcessGroup {
    return this.#exchanges.group;
  }

  /** Number of iterations begun by {@link prepareForForward}. */
  get iterations(): number {
    return this.#iterations;
  }

  /** The current buckets, in the order in which they are exchanged: the indices of their parameters. */
  get bucketIndices(): readonly (readonly number[])[] {
    return this.#buckets.indices;
  }

  /** Begins an iteration. c10d: `prepare_for_forward`. */
  prepareForForward(): void {
    this.#iterations++;
    this.timer.forwardStarts();
  }

  /**
   * Begins a backward pass.
   *
   * @param unused Indices of the parameters that will get no gradient, if that is known. With `findUnusedParameters`,
   *   parameters without a gradient when {@link finalizeBackward} is called are unused too.
   * @throws DistError if the pass before was not finished, or failed.
   *
   * c10d: `prepare_for_backward`, which finds unused parameters by itself.
   */
  prepareForBackward(unused: readonly number[] = []): void {
    this.checkReducerFinalized();
    this.requireDivision();
    for (const index of unused) this.#requireIndex(index);
    if (unused.length > 0 && !this.#findsUnused) {
      throw new InvalidArgumentError("parameters can be unused only with findUnusedParameters: true", {
        argument: "unused",
      });
    }
    this.timer.backwardStarts();
    this.#expectsHooks = true;
    this.#lastReadyOrder = [];
    this.#nextBucket = 0;
    this.#bucketsReduced = 0;
    for (const bucket of this.#buckets.all) bucket.reset();
    if (this.#staticGraph) this.#usesLeft = [...this.#uses];
    this.#hasMarkedUnused = false;
    this.#ready.clear();
    if (this.#findsUnused) this.#unused = unused;
  }

  /**
   * Takes the gradient of a parameter, which has been set as its `grad`. When those of a bucket are complete, its
   * exchange begins. Does nothing outside a backward pass, so that gradients can be accumulated locally.
   *
   * @throws DistError for a parameter that was ready before, an index out of range, or a gradient of another size.
   *
   * c10d: `_autograd_hook`.
   */
  autogradHook(index: number): void {
    if (!this.#expectsHooks || this.#hooksRemoved) return;
    this.requireExpected(index, this.parameters[index]?.grad);
    this.#lastReadyOrder.push(index);
    const isFirstStatic = this.#isFirstStatic;
    if ((this.#findsUnused || isFirstStatic) && this.parameters[index]?.grad !== undefined) this.#usedMap[index] = 1;
    if (isFirstStatic) {
      this.#uses[index] = (this.#uses[index] ?? 0) + 1;
      this.#mustFinalize = true;
      return;
    }
    this.#markUnused();
    if (this.#staticGraph) {
      const left = this.#usesLeft[index] ?? 0;
      this.#usesLeft[index] = left - 1;
      this.#mustFinalize = true;
      if (left > 1) return;
    }
    this.#pushReady(index);
    this.#markReady(index);
  }

  /**
   * Throws what {@link autogradHook} would for this gradient of a parameter, and changes nothing.
   * @internal
   */
  requireExpected(index: number, gradient: Gradient | undefined): void {
    this.#requireIndex(index);
    const { bucket, place } = this.#buckets.placeOf(index);
    bucket.requireGradient(place, gradient);
    const { rank } = this.group;
    if (this.#staticGraph) {
      const isExpected = this.#isFirstStatic || (this.#usesLeft[index] ?? 0) > 0;
      if (!isExpected) throw this.#logged(graphChangedError(this.#named(index), rank));
    } else if (this.#ready.has(index)) throw this.#logged(readyTwiceError(this.#named(index), rank));
    else if (this.#unused.includes(index)) throw this.#logged(unexpectedError(this.#named(index), rank));
  }

  /**
   * Ends a backward pass: waits for the exchanges, and sets the gradients of all parameters to the averages.
   *
   * @throws DistError if gradients are missing, before anything is waited for; or the first failure of an exchange, after
   *   which the pass has failed on all ranks, see {@link resetState}.
   *
   * c10d: what `Reducer` does by itself at the end of a backward pass.
   */
  async finalizeBackward(): Promise<void> {
    if (this.#isFirstStatic) return this.delayAllReduce();
    this.#markUnused();
    if (this.#findsUnused) {
      for (const index of this.parameters.keys()) if (!this.#ready.has(index)) this.#markReady(index);
    }
    this.timer.computeEnds();
    const missing = this.#missing();
    if (this.#nextBucket < this.#buckets.all.length) throw this.#logged(this.#unfinished(missing));
    if (this.#staticGraph) for (const index of this.#unused) this.#pushReady(index);
    await this.#finalize();
  }

  /**
   * Ends the first backward pass of a static graph: exchanges all gradients after it. c10d: `_delay_all_reduce`.
   */
  async delayAllReduce(): Promise<void> {
    this.timer.computeEnds();
    this.#mustFinalize = true;
    this.#exchanges.beginUsedMap(this.#usedMap);
    this.#unused = this.#uses.flatMap((uses, index) => (uses === 0 ? [index] : []));
    for (const index of this.parameters.keys()) this.#fill(index);
    for (const bucket of this.#buckets.all) {
      this.#nextBucket = bucket.index + 1;
      this.#launch(bucket);
    }
    await this.#finalize();
    this.#hasCountedUses = true;
  }

  /**
   * After the first backward pass, once: assigns the parameters to buckets in the order in which rank 0 got their
   * gradients. Call it in every iteration, on all ranks, before the forward pass.
   *
   * @returns Whether there are new buckets. c10d: `_rebuild_buckets`.
   */
  async rebuildBuckets(): Promise<boolean> {
    this.checkReducerFinalized();
    if (!this.#shouldRebuild || this.#readyOrder.length === 0) return false;
    const order = this.#readyOrder;
    if (order.length !== this.parameters.length) {
      throw new InvalidArgumentError(
        `rebuildBuckets(): ${order.length} gradients were ready in the last iteration, but there are ${this.parameters.length} parameters`,
      );
    }
    const { rebuildLimits, expectSparseGradients, smallLastBucket } = this.settings;
    const given = smallLastBucket ? order.toReversed() : order;
    const parameters = given.map((index) => this.parameters[index] as Parameter);
    const [buckets, limits] = computeBucketAssignmentBySize(parameters, rebuildLimits, expectSparseGradients, given);
    if (smallLastBucket) {
      buckets.reverse();
      limits.reverse();
    }
    const agreed = await syncBucketIndices(this.group, buckets, this.parameters.length);
    this.#hasRebuilt = true;
    this.#readyOrder = [];
    this.#limits = limits;
    this.#buckets.assign(agreed, this.#reductionType);
    return true;
  }

  /** For each parameter, how long after the start of the backward pass its gradient came, in ns. c10d: `get_backward_stats`. */
  getBackwardStats(): number[] {
    return [...this.#stats];
  }

  /** Further promises that {@link finalizeBackward} waits for, once. c10d: `_install_post_backward_futures`. */
  installPostBackwardFutures(futures: readonly PromiseLike<unknown>[]): void {
    this.#installed = [...this.#installed, ...futures];
  }

  /** Buckets as the current ones, with zeros for gradients: what a rank without inputs contributes. c10d: `_get_zeros_like_grad_buckets`. */
  getZerosLikeGradBuckets(): GradBucket[] {
    return this.#zeros().map((each, _, { length }) => this.#exchanges.gradBucket(each, length));
  }

  #zeros(): Bucket[] {
    const streams = this.#streams;
    return this.#buckets.all.map(({ index, members, parameters, sparse, dtype }) => {
      return new Bucket({ index, members, parameters, sparse, dtype, streams });
    });
  }

  /** The averages are used up by a hook, and not copied to the gradients. c10d: `_set_optimizer_in_backward`. */
  setOptimizerInBackward(): void {
    this.#optimizerInBackward = true;
  }

  /**
   * For the next backward pass: the rows that the sparse gradients of any rank may have, by the name of the parameter, the
   * same on all ranks. Their blocks are then all-reduced as one dense tensor, in place of indices and values. On every
   * backend, but not with `Join`; PyTorch has it on NCCL only. c10d: `_set_sparse_metadata`.
   *
   * @throws InvalidArgumentError for a parameter without sparse gradients, and for rows out of range or given twice.
   */
  setSparseMetadata(rows: Readonly<Record<string, BigInt64Array>>): void {
    this.#requireIdle("setSparseMetadata()");
    const checked = Object.entries(rows).map(([name, each]) => {
      const parameter = this.parameters.find((candidate) => candidate.name === name && candidate.sparse);
      const count = parameter?.shape[0] ?? 0;
      if (
        parameter === undefined ||
        new Set(each).size !== each.length ||
        each.some((row) => row < 0n || row >= count)
      ) {
        const reason =
          parameter === undefined
            ? "there is no such parameter with sparse gradients"
            : `rows are 0 to ${count - 1}, each once`;
        throw new InvalidArgumentError(`setSparseMetadata(): ${name}: ${reason}`, { argument: name });
      }
      return [name, each.slice()] as const;
    });
    this.#exchanges.sparseRows = new Map(checked);
  }

  /** Exchanges gradients in this dtype, such as float16, whatever that of the parameters. c10d: `_set_mixed_precision_param_dtype`. */
  setMixedPrecisionParamDtype(dtype: DType): void {
    if (!isDType(dtype)) throw new InvalidArgumentError(`unknown dtype ${describe(dtype)}`, { argument: "dtype" });
    this.#requireIdle("setMixedPrecisionParamDtype()");
    const remote = this.parameters.find((each) => isOnDevice(each) && each.dtype !== dtype);
    if (remote !== undefined) {
      const remedy = `its gradients of ${remote.dtype} cannot be converted to ${dtype}`;
      throw this.#logged(computesOnHost("setMixedPrecisionParamDtype()", remote, remedy));
    }
    this.#reductionType = dtype;
    this.#buckets.assign(this.bucketIndices, this.#reductionType);
  }

  /** Counts all parameters as ready, for ranks without inputs. c10d: `_push_all_rebuilt_params`. */
  pushAllRebuiltParams(): void {
    for (const index of this.parameters.keys()) this.#pushReady(index);
  }

  /**
   * The op by which ranks count those that still have inputs; gradients are divided by that count.
   * @param usesWorldSize Whether they are divided by the world size nevertheless. c10d: `_set_forward_pass_work_handle`.
   */
  setForwardPassWorkHandle(work: PromiseLike<TensorLike>, usesWorldSize: boolean): void {
    const count = Promise.resolve(work).then((tensor) => Number(viewTensor(tensor).data?.[0]));
    // Its failure is reported where the count is used, or in finalizeBackward().
    count.catch(() => {});
    this.#exchanges.divideBy(usesWorldSize ? undefined : count);
    this.#installed = [...this.#installed, count];
  }

  /** For each parameter, 1 if this rank has used it in the current iteration, int32. c10d: `_get_local_used_map`. */
  getLocalUsedMap(): Int32Array {
    return this.#usedMap;
  }

  /** From the 11th iteration on, every `rate`-th is logged. c10d: `_set_ddp_runtime_logging_sample_rate`. */
  setDdpRuntimeLoggingSampleRate(rate: number): void {
    if (!Number.isSafeInteger(rate) || rate < 1) {
      throw new InvalidArgumentError(
        `DDP runtime logging sampling rate should be equal or greater than 1, got ${describe(rate)}`,
        { argument: "rate" },
      );
    }
    this.#sampleRate = rate;
  }

  /** Whether times of the current iteration are logged. */
  get isSampled(): boolean {
    return this.#iterations > 0 && (this.#iterations <= 10 || this.#iterations % this.#sampleRate === 0);
  }

  /**
   * Every iteration uses the same parameters equally often. The first one counts how often; its gradients are exchanged
   * after the backward pass. c10d: `_set_static_graph`.
   */
  setStaticGraph(): void {
    if (this.#iterations > 0) {
      throw this.#logged(
        new InvalidArgumentError(
          "set_static_graph() should be called before training loop starts and after DistributedDataParallel is constructed.",
        ),
      );
    }
    this.#staticGraph = true;
    this.#logger?.setStaticGraph();
  }

  /** Whether all iterations so far left the same parameters unused. c10d: `_ddp_graph_static`. */
  ddpGraphStatic(): boolean {
    return this.#graphIsStatic;
  }

  /** Exchanges a bucket as the reducer would: by the hook, or without one by a sum of what it holds. c10d: `_run_comm_hook`. */
  async runCommHook(bucket: GradBucket): Promise<Gradient> {
    return this.#exchanges.run(bucket);
  }

  /** The sum over all ranks of what a bucket holds, in its buffer. c10d: `_run_allreduce_hook`. */
  async runAllreduceHook(bucket: GradBucket): Promise<Gradient> {
    return await this.#exchanges.sum(bucket.buffer(), bucket.copyStream);
  }

  /**
   * Takes part in the exchanges of an iteration that this rank does not have, with zeros.
   * @param usesWorldSize Whether the others divide by the world size, although ranks have joined.
   * @internal
   */
  async standIn(usesWorldSize: boolean): Promise<void> {
    this.requireDivision();
    const isFirstStatic = this.#isFirstStatic;
    if (isFirstStatic) await this.group.allReduce(this.#usedMap.fill(0));
    for (const zeros of this.#zeros()) {
      await this.#exchanges.standIn(this.#exchanges.gradBucket(zeros, this.#buckets.all.length), usesWorldSize);
      zeros[Symbol.dispose]();
    }
    if (this.#findsUnused) {
      await this.group.allReduce(this.#usedMap.fill(0));
      this.#usedMap.fill(0);
    }
    // The others do not either: their first pass of a static graph only counts.
    if (!isFirstStatic) this.pushAllRebuiltParams();
    this.#hasCountedUses = true;
  }

  /**
   * Ends a backward pass whose gradients will not all come. If none was sent, the next one can begin; else {@link resetState}
   * is needed.
   * @internal
   */
  abandonBackward(cause: unknown): void {
    if (!this.#expectsHooks) return;
    this.#expectsHooks = false;
    if (this.#nextBucket > 0) {
      // Nobody waits for those that were sent.
      const sent = [...this.#buckets.all.map(({ exchange }) => exchange), this.#exchanges.usedMap];
      for (const each of sent) void Promise.resolve(each).catch(() => {});
      this.fail(abandonedError(cause, messageOf(cause)));
      return;
    }
    this.#mustFinalize = false;
    if (!this.#hasRebuilt) this.#readyOrder = [];
    if (this.#isFirstStatic) this.#uses.fill(0);
    if (this.#isFirstStatic || this.#findsUnused) this.#usedMap.fill(0);
  }

  /** Whether the division by the number of ranks is left to the native library. */
  get averagesInLibrary(): boolean {
    return this.#exchanges.averaging;
  }

  /**
   * Whether to leave the division by the number of ranks to the native library, where it has that: for float32 and float64,
   * and on devices for all dtypes. On all ranks or none: those of PyTorch divide before they sum.
   * @internal
   */
  averageInLibrary(does: boolean): void {
    this.#requireIdle("averageInLibrary()");
    this.#exchanges.averaging = does;
  }

  /**
   * To be called before anything of an iteration is sent.
   * @throws UnsupportedOperationError for gradients on a device that neither a hook nor the library averages.
   * @internal
   */
  requireDivision(): void {
    if (this.#streams.isEmpty) return;
    this.#exchanges.requireDivision(this.#buckets.all);
  }

  /** Gets errors, and is told of the hook. c10d: `set_logger`. */
  setLogger(logger: Logger): void {
    this.#logger = logger;
  }

  /** From now on, {@link autogradHook} does nothing. c10d: `_remove_autograd_hooks`. */
  removeAutogradHooks(): void {
    this.#hooksRemoved = true;
  }

  /** @throws DistError unless the last backward pass has been finished successfully. c10d: `_check_reducer_finalized`. */
  checkReducerFinalized(): void {
    const broken = this.#broken;
    if (broken instanceof DistError && broken.code === "STEP_ABANDONED") throw this.#logged(broken);
    if (broken !== undefined) throw this.#logged(brokenError(broken, messageOf(broken)));
    if (this.#mustFinalize) throw this.#logged(this.#unfinished(this.#missing()));
  }

  /**
   * Forgets a backward pass that failed or was not finished, the rebuilt buckets, and all gradients. To be called on all
   * ranks. If the pass had failed, so has its group: {@link updateProcessGroup}. c10d: `_reset_state`.
   */
  resetState(): void {
    this.#hasRebuilt = false;
    this.#readyOrder = [];
    this.#expectsHooks = false;
    this.#mustFinalize = false;
    this.#broken = undefined;
    this.#hasCountedUses = false;
    this.#uses.fill(0);
    this.#unused = [];
    for (const parameter of this.parameters) parameter.grad = undefined;
    this.#exchanges.reset();
    this.#usedMap.fill(0);
    this.#installed = [];
    // Ops or hooks of the failed pass may still write to the old memory.
    this.#buckets.assign(this.bucketIndices, this.#reductionType);
  }

  /** Averages over another group from now on, such as one without the ranks that were lost. c10d: `_update_process_group`. */
  updateProcessGroup(group: ProcessGroup): void {
    this.#requireIdle("updateProcessGroup()");
    this.#exchanges.group = group;
  }

  /**
   * Exchanges buckets by a hook. Use `registerCommHook`.
   * @internal
   */
  setHook<S>(state: S, hook: CommHook<S>, options: CommHookOptions = {}): void {
    if (this.#exchanges.hook !== undefined) {
      throw this.#logged(
        new InvalidArgumentError("register_comm_hook or register_builtin_comm_hook can only be called once."),
      );
    }
    if (typeof hook !== "function") {
      throw this.#logged(
        new InvalidArgumentError(`Communication hook must be callable, got ${describe(hook)}`, { argument: "hook" }),
      );
    }
    this.#requireIdle("registerCommHook()");
    const remote = this.parameters.find(isOnDevice);
    if (remote !== undefined && needsHost(hook)) {
      const remedy =
        "this hook cannot compute; use one that only calls collectives, or keep the parameters in host memory";
      throw this.#logged(computesOnHost(`hook ${options.name ?? hook.name}`, remote, remedy));
    }
    const registered = new RegisteredHook(state, hook as CommHook<never>, options);
    this.#exchanges.hook = registered;
    this.#logger?.setCommHookName(registered.name);
  }

  /** Name of the communication hook, if there is one. */
  get hookName(): string | undefined {
    return this.#exchanges.hook?.name;
  }

  /** The part of a bucket for the gradient of a parameter. Changes when buckets are rebuilt. */
  gradientView(index: number): TensorLike {
    this.#requireIndex(index);
    const { bucket, place } = this.#buckets.placeOf(index);
    return bucket.viewOf(place);
  }

  /** Facts for the logger. */
  facts(): ReducerFacts {
    return {
      bucketSizes: this.#buckets.all.map(({ parameters }) =>
        parameters.reduce((sum, each) => sum + each.byteLength, 0),
      ),
      bucketLimits: this.#limits,
      hasRebuilt: this.#hasRebuilt,
      bucketsReduced: this.#bucketsReduced,
      unused: this.#unused,
      lastReadyOrder: this.#lastReadyOrder,
    };
  }

  get #findsUnused(): boolean {
    return this.settings.findUnusedParameters && !this.#staticGraph;
  }

  get #isFirstStatic(): boolean {
    return this.#staticGraph && !this.#hasCountedUses;
  }

  get #shouldRebuild(): boolean {
    return (this.#staticGraph || !this.settings.findUnusedParameters) && !this.#hasRebuilt;
  }

  #pushReady(index: number): void {
    if (this.#shouldRebuild) this.#readyOrder.push(index);
  }

  /** Marks those as ready of which it is known that they will get no gradient. */
  #markUnused(): void {
    if (this.#hasMarkedUnused) return;
    this.#hasMarkedUnused = true;
    for (const index of this.#unused) this.#markReady(index);
  }

  /**
   * Fails this rank's training, and with it the group: its ranks may not be in step any more, so that averages would be of
   * different iterations.
   * @internal
   */
  fail(error: unknown): void {
    this.#broken = error;
    this.#logger?.setErrorAndLog(error);
    this.group.abort(`a backward pass of rank ${this.group.rank} has failed: ${messageOf(error)}`);
  }

  #markReady(index: number): void {
    this.#stats[index] = this.timer.sinceBackwardStart();
    this.#fill(index);
    this.#ready.add(index);
    this.#mustFinalize = true;
    const { bucket } = this.#buckets.placeOf(index);
    bucket.pending--;
    if (bucket.pending > 0 || bucket.index > this.#nextBucket) return;
    while (this.#nextBucket < this.#buckets.all.length) {
      const next = this.#buckets.all[this.#nextBucket] as Bucket;
      if (next.pending > 0) return;
      this.#nextBucket++;
      this.#launch(next);
    }
    if (this.#findsUnused) this.#exchanges.beginUsedMap(this.#usedMap);
  }

  /** Copies the gradient of a parameter into its bucket, divided unless a hook exchanges it. */
  #fill(index: number): void {
    const { bucket, place } = this.#buckets.placeOf(index);
    const parameter = this.parameters[index] as Parameter;
    bucket.fill(place, this.#exchanges.divisorOf(bucket));
    if (this.settings.gradientAsBucketView && !bucket.sparse && parameter.grad !== undefined) {
      parameter.grad = bucket.viewOf(place);
    }
  }

  #launch(bucket: Bucket): void {
    this.timer.communicationStarts();
    this.#bucketsReduced++;
    this.#exchanges.begin(bucket, this.#buckets.all.length);
  }

  /** Waits for all exchanges, even if one fails: until then, native code may use the memory of the buckets. */
  async #finalize(): Promise<void> {
    this.#expectsHooks = false;
    const results: (Gradient | undefined)[] = [];
    let failure: { readonly error: unknown } | undefined;
    const failed = (error: unknown, what: string) => {
      if (failure !== undefined) return;
      if (error instanceof DistError) addToError(error, what);
      failure = { error };
      // Ends the other exchanges, too.
      this.fail(error);
    };
    const waitFor = async <T>(pending: PromiseLike<T> | undefined, what: string): Promise<T | undefined> => {
      try {
        return await pending;
      } catch (error) {
        failed(error, what);
        return undefined;
      }
    };
    let letFollow = () => {};
    try {
      // What is in the current streams now may still read gradients.
      letFollow = this.#streams.follow();
    } catch (error) {
      failed(error, "at the end of the backward pass");
    }
    for (const bucket of this.#buckets.all) {
      const exchanged = await waitFor(bucket.exchange, `while averaging bucket ${bucket.index} (${bucket.names})`);
      results.push(exchanged);
    }
    if (this.#findsUnused || this.#isFirstStatic) {
      await waitFor(this.#exchanges.usedMap, "while comparing which parameters were used");
    }
    for (const each of this.#installed) await waitFor(each, "after the backward pass");
    this.#installed = [];
    this.#exchanges.reset();
    if (failure !== undefined) throw failure.error;
    try {
      for (const [index, bucket] of this.#buckets.all.entries()) this.#deliver(bucket, results[index] as Gradient);
      letFollow();
    } catch (error) {
      this.fail(error);
      throw error;
    }
    this.#mustFinalize = false;
    if (this.#findsUnused) {
      this.#compareUnused();
      this.#usedMap.fill(0);
    }
    this.timer.communicationEnds(this.#exchanges.libraryTimes(this.#buckets.all));
  }

  /** Sets the gradients of a bucket's parameters to the averages. */
  #deliver(bucket: Bucket, result: Gradient): void {
    bucket.receive(result);
    const usesMap = this.settings.findUnusedParameters || this.#staticGraph;
    for (const [place, index] of bucket.members.entries()) {
      const parameter = this.parameters[index] as Parameter;
      if (this.#optimizerInBackward) {
        parameter.grad = undefined;
        continue;
      }
      // Unused on all ranks: what it holds stays as it is.
      if (usesMap && this.#usedMap[index] === 0) continue;
      if (this.settings.gradientAsBucketView && !bucket.sparse) parameter.grad = bucket.viewOf(place);
      else bucket.copyOut(place);
    }
  }

  #compareUnused(): void {
    const used = new Set(this.#lastReadyOrder);
    const now = [...this.parameters.keys()].filter((index) => !used.has(index));
    if (this.#iterations > 1 && String(now) !== String(this.#previousUnused)) this.#graphIsStatic = false;
    this.#previousUnused = now;
    this.#unused = now;
  }

  #missing(): NamedIndex[] {
    if (this.#isFirstStatic) return [];
    return this.parameters.flatMap((_, index) => (this.#ready.has(index) ? [] : [this.#named(index)]));
  }

  #unfinished(missing: readonly NamedIndex[]): DistError {
    return unfinishedError(missing, this.group.rank, this.#staticGraph, this.#findsUnused);
  }

  #named(index: number): NamedIndex {
    return { index, name: this.settings.names[index] ?? String(index) };
  }

  #requireIndex(index: number): void {
    if (Number.isInteger(index) && index >= 0 && index < this.parameters.length) return;
    throw this.#logged(
      new InvalidArgumentError(
        `Out of range variable index. There are parameters 0 to ${this.parameters.length - 1}, got ${describe(index)}`,
        { argument: "index" },
      ),
    );
  }

  #requireIdle(what: string): void {
    if (!this.#expectsHooks && !this.#mustFinalize) return;
    throw new InvalidArgumentError(`${what} must not be called during a backward pass`);
  }

  #logged(error: DistError): DistError {
    this.#logger?.setErrorAndLog(error);
    return error;
  }
}
