import {
  isMessage,
  isTensorList,
  type Operation,
  type OpName,
  OpType,
  opTable,
  ReduceOp,
  requireOptions,
  requireReduceOp,
  requireTag,
  requireTensor,
  requireTimeout,
} from "../collectives/index.ts";
import { requireOptionNames } from "../collectives/option-names.ts";
import { environmentFlag } from "../environment/index.ts";
import {
  brand,
  type CallSite,
  captureCallSite,
  DistError,
  DistTimeoutError,
  describe,
  InvalidArgumentError,
  messageOf,
  ranksText,
  UnsupportedOperationError,
  warn,
} from "../errors/index.ts";
import { FlightRecorder, type GroupCall } from "../recorder/index.ts";
import { type Backend, type BackendPlugin, type BackendType, GRACE_MS, type Logger } from "../registry/index.ts";
import type { OwnStatus } from "../status/index.ts";
import { type Device, type DeviceType, SparseTensor, type TensorLike } from "../tensor/index.ts";
import { withLimit } from "../time/index.ts";
import type { GroupState, Steps, Work } from "../work/index.ts";
import type * as Options from "./arguments/call-options.ts";
import { type AnyCallOptions, CallReader, type Given } from "./arguments/call-reader.ts";
import { requireStepOptionNames, type SteppedOpName } from "./arguments/option-names.ts";
import { RankNames } from "./arguments/rank-names.ts";
import { callAll, GroupLife } from "./group-life.ts";
import { type MemoryWindow, openWindow, type RegisteredMemory, registerMemory } from "./group-memory.ts";
import { GroupWorks, type WholeTerms } from "./group-works.ts";
import { GroupHooks } from "./hooks/group-hooks.ts";
import type { CompletionHook, OpHooks } from "./hooks/op-hooks.ts";
import { type P2POp, refuseBatch, requireBatch, standsFor, startBatch } from "./message-batch.ts";
import * as objects from "./objects/object-collectives.ts";
import { OpDispatcher, type SteppedOp } from "./op-dispatcher.ts";
import type { Pipeline } from "./pipeline/pipeline.ts";
import { type BackendKey, Pipelines } from "./pipeline/pipelines.ts";
import { callsFor, requireComposable } from "./steps/composed-calls.ts";
import { monitoredBarrier } from "./steps/monitored-barrier.ts";
import { allReduceSparse } from "./steps/sparse-all-reduce.ts";
import { stepsWithin } from "./steps/submit-step.ts";
import { writeTraceFiles } from "./trace-files.ts";

/** What a {@link ProcessGroup} is constructed from. */
export interface ProcessGroupInit {
  readonly name: string;
  readonly description: string;
  readonly rank: number;
  readonly globalRanks: readonly number[];
  readonly timeoutMs: number;
  readonly pipelines: readonly Pipeline[];
  /** The device of its type that this rank uses, if there are several. */
  readonly boundDevice?: Device | undefined;
  /** Why the group has no backend for these types of device, where that was not the user's choice. */
  readonly absent?: ReadonlyMap<DeviceType, string> | undefined;
  /** Records the ops of the group. By default, nothing is recorded. */
  readonly recorder?: FlightRecorder | undefined;
  /** Whether its ops go to several communicators in turn, each of which numbers its own. */
  readonly isCombined?: boolean | undefined;
  /** Id of its world, for the recorder. */
  readonly world?: string | undefined;
  /** Gets the failures of hooks. By default, they become process warnings. */
  readonly logger?: Logger | undefined;
  /** Status record of this rank. By default there is none. */
  readonly status?: OwnStatus | undefined;
  /** Called once, when the group has been closed. */
  readonly onClose?: (() => Promise<void>) | undefined;
}

/** A tensor if the other argument is a tensor, a list if it is a list. */
export type OneOrList<T> = T extends readonly TensorLike[] ? readonly TensorLike[] : TensorLike;

/** Default size limit of one object in an object collective. */
const MAX_OBJECT_BYTES = 64 * 2 ** 20;
const NO_OPTIONS = Object.freeze({});

/**
 * A group of ranks. Ops run on the backend for their tensors' device. All ranks must issue the collectives of a group
 * in the same order, with the same dtypes and sizes.
 *
 * An op uses its tensors in place until its Work ends: until then, do not write to them or detach their buffers.
 * Detaching a buffer loses the result (`DETACHED_BUFFER`). In an op of more than 4 KB it also fails the group, since
 * native code may have damaged other memory by then; buffers from `empty()` cannot be detached. A tensor that an op
 * writes to must not overlap its other tensors, except for a rank's own part (`OVERLAPPING_TENSORS`). See
 * docs/tensors.md.
 *
 * Every op returns a {@link Work}. It rejects with InvalidArgumentError or UnsupportedOperationError if nothing was
 * sent, else with DistTimeoutError, DistNetworkError or DistBackendError, after which the group has failed.
 *
 * The object collectives take plain data (docs/objects.md): JSON values, undefined, bigint, Date, Map, Set, ArrayBuffer
 * and TypedArrays. Receivers get copies. Objects are encoded during the call; one that would arrive as something else
 * is refused (`OBJECT_NOT_SENDABLE`). These ops take several steps, and collectives called meanwhile start after them.
 * All ranks of the group must be Bun ranks.
 *
 * `await using` a group aborts the ops in flight at the end of the block and closes it within a second;
 * `destroyProcessGroup()` waits for them instead.
 *
 * c10d: `ProcessGroup`.
 */
export class ProcessGroup implements AsyncDisposable {
  static {
    brand(ProcessGroup, "ProcessGroup");
  }

  /** "0" is the default group. */
  readonly name: string;
  /** What the group is for, as described by its creator. */
  readonly description: string;
  /** Rank in this group. */
  readonly rank: number;
  /** Global rank of each rank of this group. */
  readonly globalRanks: readonly number[];
  /** Default time-out of ops, in milliseconds. */
  readonly timeoutMs: number;
  /** The device of its type that this rank is bound to, if any. c10d: `bound_device_id`. */
  readonly boundDevice: Device | undefined;
  readonly #ranks: RankNames;
  readonly #pipelines: Pipelines;
  readonly #life: GroupLife;
  readonly #hooks: GroupHooks;
  readonly #logger: Logger | undefined;
  /** Why the flight recorder has been written so far, and how many ops it had then. */
  readonly #dumps = new Map<string, number>();
  readonly #works: GroupWorks;
  readonly #reader: CallReader;
  readonly #dispatcher: OpDispatcher;
  /** Number of monitored barriers that were made of messages. */
  #monitoredBarriers = 0;
  readonly #capturesCallSites = environmentFlag("C10D_CALL_SITES");

  constructor(init: ProcessGroupInit) {
    const {
      name,
      description,
      rank,
      globalRanks,
      timeoutMs,
      pipelines,
      boundDevice,
      absent,
      recorder = new FlightRecorder({ capacity: 0 }),
      world,
      isCombined,
      logger,
      status,
      onClose,
    } = init;
    this.name = name;
    this.description = description;
    this.rank = rank;
    this.globalRanks = globalRanks;
    this.timeoutMs = timeoutMs;
    this.boundDevice = boundDevice;
    this.#logger = logger;
    this.#ranks = new RankNames(name, rank, globalRanks);
    this.#pipelines = new Pipelines(name, pipelines, absent);
    const backends = Object.fromEntries(pipelines.map(({ device, plugin }) => [device.type, plugin.name]));
    // Not the group itself, which the recorder would keep alive after its end.
    const recorded = recorder.addGroup({ name, description, rank, globalRanks, backends, world, isCombined });
    this.#hooks = new GroupHooks({ name, rank, globalRanks }, logger);
    const own = status?.record.group({
      ...{ name, rank },
      size: globalRanks.length,
      backends: pipelines.map(({ plugin }) => plugin.name),
    });
    let closing: GroupCall | undefined;
    this.#life = new GroupLife(name, rank, pipelines, {
      onFailing: (reason, error) => {
        this.#hooks.aborting(reason, error);
        if (error !== undefined) this.#dump(recorder, "it has failed", error);
      },
      onDesync: () => this.#dump(recorder, "its ranks have made different calls"),
      onClosing: () => {
        own?.closing();
        const globalRank = globalRanks[rank] ?? rank;
        const began = performance.now();
        const init = { call: "close", group: name, globalRank, globalRanks, timeoutMs, began, world };
        closing ??= recorder.beginGroupCall(init);
      },
      onClose: async () => {
        recorder.removeGroup(recorded);
        own?.close();
        try {
          await onClose?.();
        } finally {
          closing?.end();
        }
      },
    });
    const statuses = status && own && { own, all: status };
    this.#works = new GroupWorks(this.#ranks, this.#life, recorder, recorded, this.#hooks, statuses);
    // As in c10d, a barrier is on the device that the group is bound to.
    this.#reader = new CallReader(this.#ranks, timeoutMs, boundDevice ?? this.#pipelines.defaultDevice);
    const requireOpen = (op: string) => this.#life.requireOpen(op);
    this.#dispatcher = new OpDispatcher({ name, pipelines, requireOpen }, this.#works, this.#hooks);
    if (environmentFlag("TORCH_NCCL_ENABLE_TIMING") || timingByOldName()) this.#tryEnableTiming();
  }

  /** Number of ranks. */
  get size(): number {
    return this.globalRanks.length;
  }

  /** OPEN while all its backends are open. */
  get state(): GroupState {
    return this.#life.state;
  }

  /** Name of a backend, e.g. `gloo`. Defaults to the backend for CPU tensors. */
  backendName(of?: BackendKey): string {
    return this.plugin(of).name;
  }

  /** The c10d type of a backend. */
  backendType(of?: BackendKey): BackendType {
    return this.plugin(of).type;
  }

  /** A backend of the group, looked up by the device of its tensors or by its type. */
  backend(of?: BackendKey): Backend {
    return this.pipeline(of).backend;
  }

  /** The plugin that made a backend. */
  plugin(of?: BackendKey): BackendPlugin {
    return this.pipeline(of).plugin;
  }

  /** The pipeline through which calls reach a backend. */
  pipeline(of?: BackendKey): Pipeline {
    return of === undefined ? this.#pipelines.default : this.#pipelines.of(of);
  }

  /** Device types for which the group has a backend. */
  get deviceTypes(): DeviceType[] {
    return this.#pipelines.all.map(({ device }) => device.type);
  }

  /** Number of ops in flight. */
  get inFlight(): number {
    return this.#works.inFlight;
  }

  /** Rank in this group of a global rank. Throws InvalidArgumentError for ranks that are not in it. */
  groupRankOf(globalRank: number): number {
    return this.#ranks.groupRankOf(globalRank);
  }

  /**
   * From now on, `work.info().activeDuration` is the time that an op spends in the native library. Without this, and on
   * backends without a library, it is the time from the call to the end. It costs a small op about 0.1 µs. c10d:
   * `_enable_collectives_timing`.
   */
  enableCollectivesTiming(): void {
    callAll("enableTiming()", this.#pipelines.all, (pipeline) => pipeline.enableTiming());
  }

  /**
   * Calls functions for each op of this group: `pre` before it is submitted, `post` after that, and `abort` once, when
   * the group fails or is aborted. `opId` joins what belongs to one op. What a hook throws is logged and has no effect.
   * The same events are on the `node:diagnostics_channel` channels of `tracingChannel("bun-c10d.op")` and
   * `channel("bun-c10d.group.abort")`.
   *
   * ```ts
   * using _ = group.registerHook({ pre: ({ op, opId }) => console.log("begins", op, opId) });
   * ```
   *
   * @returns Disposing of it removes the hooks.
   * @throws InvalidArgumentError for anything but an object of hooks.
   *
   * c10d: `register_pre_hook`, `register_post_hook`, `register_abort_hook`.
   */
  registerHook(hooks: OpHooks): Disposable {
    return this.#hooks.register(hooks);
  }

  /**
   * Calls a function with the {@link WorkInfo} of each op of this group that has ended, successfully or not. There can
   * be one at a time.
   *
   * ```ts
   * using _ = group.registerOnCompletionHook(({ opType, seq, activeDuration }) => console.log(opType, seq, activeDuration));
   * ```
   *
   * @returns Disposing of it removes the hook.
   * @throws DistBackendError (`HOOK_REGISTERED`) when there is one.
   *
   * c10d: `_register_on_completion_hook`.
   */
  registerOnCompletionHook(hook: CompletionHook): Disposable {
    return this.#hooks.registerCompletion(hook);
  }

  /** Whether a hook is registered. c10d: `_has_hooks`. */
  hasHooks(): boolean {
    return this.#hooks.hasHooks;
  }

  /**
   * Resolves when no op is in flight and all asynchronous hooks have ended; called in a hook, all others, but for those
   * that wait here as well. c10d: `_wait_for_pending_works`.
   * @param options.timeout That of the group by default.
   * @throws DistTimeoutError (`PENDING_TIMEOUT`) when it expires.
   */
  async waitForPendingWorks(options: Pick<Options.CallOptions, "timeout"> = NO_OPTIONS): Promise<void> {
    const name = "waitForPendingWorks";
    requireOptionNames<typeof options>(name, options, { timeout: true });
    const limitMs = requireTimeout(name, options.timeout, this.timeoutMs);
    const idle = async () => {
      await Promise.all([this.#works.idle(), this.#dispatcher.idle()]);
      await this.#hooks.idle();
    };
    await withLimit(idle(), limitMs, () => {
      const what = this.inFlight > 0 ? `${this.inFlight} ops are in flight` : "a hook has not ended";
      return new DistTimeoutError(`${name}: group "${this.name}": ${what} after ${limitMs} ms`, {
        ...{ group: this.name, rank: this.rank, timeoutMs: limitMs, code: "PENDING_TIMEOUT" },
      });
    });
  }

  /** A backend that fails to do it must not keep the group from being made. */
  #tryEnableTiming(): void {
    try {
      this.enableCollectivesTiming();
    } catch (error) {
      warn(`group "${this.name}": TORCH_NCCL_ENABLE_TIMING has no effect: ${messageOf(error)}`);
    }
  }

  /**
   * Registers memory of a device that many ops are going to use, where the library can do that, such as NCCL's
   * `ncclCommRegister`; the library decides whether it makes them faster. Of this rank alone; what it resolves to is to be
   * disposed of before the memory is freed. c10d: `register_mem_pool`.
   *
   * @throws UnsupportedOperationError for a backend that cannot do it, InvalidArgumentError for host memory.
   */
  async registerMemory(
    tensor: TensorLike,
    options: Pick<Options.CallOptions, "timeout"> = NO_OPTIONS,
  ): Promise<RegisteredMemory> {
    const { pipeline, view, limitMs } = this.#memoryOf("registerMemory", tensor, options);
    return registerMemory(pipeline, view, limitMs, () => this.state === "OPEN");
  }

  /**
   * Opens a window over memory of a device, by which the library can access it from other ranks. All ranks of the group
   * call it, in the order of its collectives, and later close it. Libraries take only some memory: NCCL none of
   * `dist.cuda`, but that of its `ncclMemAlloc`.
   *
   * @throws UnsupportedOperationError for a backend that cannot do it, InvalidArgumentError for host memory.
   */
  async openWindow(
    tensor: TensorLike,
    options: Pick<Options.CallOptions, "timeout"> = NO_OPTIONS,
  ): Promise<MemoryWindow> {
    const { pipeline, view, limitMs } = this.#memoryOf("openWindow", tensor, options);
    return openWindow(pipeline, view, limitMs, () => this.state === "OPEN");
  }

  #memoryOf(name: string, tensor: TensorLike, options: Pick<Options.CallOptions, "timeout">) {
    requireOptionNames<typeof options>(name, options, { timeout: true });
    this.#life.requireOpen(name);
    const limitMs = requireTimeout(name, options.timeout, this.timeoutMs);
    const view = requireTensor(name, tensor);
    return { pipeline: this.#pipelines.forMemory(name, view.device), view, limitMs };
  }

  /** Fails the ops in flight, and the group with them. */
  abort(reason = "the group was aborted"): void {
    this.#life.abort(reason);
  }

  /**
   * Waits for the ops in flight, closes the group, and throws the first error that was not observed.
   * @param limitMs How long to wait before the remaining ops are aborted.
   */
  drain(limitMs: number): Promise<void> {
    return this.#life.drain(limitMs, this.#works, this.#dispatcher);
  }

  /**
   * Aborts the ops in flight and closes the group. The built-in backends take a second at most; a backend that takes
   * more than ten is abandoned with a `DistTimeoutError`. Calling it again does nothing.
   */
  close(): Promise<void> {
    return this.#life.close();
  }

  /**
   * {@link close}, for `await using`. Never rejects, since that would hide an error thrown in the block: an error in
   * closing becomes a process warning (`DistWarning`) with its code.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close().catch((error: unknown) => {
      const code = error instanceof DistError ? error.code : undefined;
      warn(`closing group "${this.name}" at the end of its block failed: ${messageOf(error)}`, code);
    });
  }

  /**
   * Writes the flight recorder to the files that the environment names, once for each reason; again if an op that failed
   * during its call has been recorded since.
   */
  #dump(recorder: FlightRecorder, reason: string, error?: DistError): void {
    const before = this.#dumps.get(reason);
    if (before === recorder.recorded) return;
    // Calls that come after the failure say nothing new.
    if (before !== undefined && error?.code === "GROUP_FAILED") return;
    this.#dumps.set(reason, recorder.recorded);
    writeTraceFiles({
      recorder,
      globalRank: this.globalRanks[this.rank] ?? this.rank,
      what: `group "${this.name}" (rank ${this.rank}): ${reason}`,
      logger: before === undefined ? this.#logger : undefined,
    });
  }

  toString(): string {
    return `<ProcessGroup "${this.name}" rank ${this.rank}/${this.size} ${this.state}>`;
  }

  /**
   * Reduces a tensor across all ranks, in place. A list of tensors of one dtype is reduced as one op.
   *
   * For a {@link SparseTensor}, all ranks get the sum as a new tensor with each index once; the input is unchanged.
   * This takes several steps and supports `ReduceOp.SUM` only.
   *
   * c10d: `all_reduce`, `all_reduce_coalesced`.
   */
  allReduce<T extends TensorLike | readonly TensorLike[] | SparseTensor>(
    tensors: T,
    options: Options.AllReduceOptions = NO_OPTIONS,
  ): Work<T> {
    // Arrays first: `instanceof` of our own classes takes some 50 ns.
    if (!ArrayBuffer.isView(tensors) && tensors instanceof SparseTensor) {
      return this.#allReduceSparse(tensors, options) as Work<unknown> as Work<T>;
    }
    const given = tensors as Exclude<T, SparseTensor>;
    return this.#run(isTensorList(given) ? "allReduceCoalesced" : "allReduce", options, given, undefined);
  }

  /**
   * Copies the root's tensor to all ranks.
   *
   * @param options `src` (global rank) or `groupSrc` (rank in this group) names the root.
   *
   * c10d: `broadcast`.
   */
  broadcast<T extends TensorLike>(tensor: T, options: Options.BroadcastOptions): Work<T> {
    return this.#run("broadcast", options, tensor, undefined);
  }

  /**
   * Reduces a tensor across all ranks into the destination's. On other ranks, its contents afterwards are unspecified.
   *
   * @param options `dst` or `groupDst` names the destination.
   *
   * c10d: `reduce`.
   */
  reduce<T extends TensorLike>(tensor: T, options: Options.ReduceToOptions): Work<T> {
    return this.#run("reduce", options, tensor, undefined);
  }

  /**
   * Gathers the tensors of all ranks on every rank.
   *
   * @param outputs One tensor per rank, each of the input's length.
   * @param input This rank's tensor, of the same length on all ranks.
   *
   * c10d: `all_gather`.
   */
  allGather<T extends readonly TensorLike[]>(
    outputs: T,
    input: TensorLike,
    options: Options.AllGatherOptions = NO_OPTIONS,
  ): Work<T> {
    return this.#run("allGather", options, outputs, input);
  }

  /**
   * Gathers the tensors of all ranks into one: part `rank` of the output is that rank's input.
   *
   * @param output World size times the length of the input. A list of outputs with an equally long list of inputs, all
   *   of one dtype, is one op where the backend supports that.
   *
   * c10d: `all_gather_into_tensor`, `_allgather_base`, `allgather_into_tensor_coalesced`.
   */
  allGatherIntoTensor<T extends TensorLike | readonly TensorLike[]>(
    output: T,
    input: OneOrList<T>,
    options: Options.AllGatherOptions = NO_OPTIONS,
  ): Work<T> {
    const lists = isTensorList(output) || isTensorList(input);
    return this.#run(lists ? "allGatherIntoTensorCoalesced" : "allGatherIntoTensor", options, output, input);
  }

  /**
   * Gathers the tensors of all ranks on the destination.
   *
   * @param options `dst` or `groupDst` names the destination, which alone passes `outputs`: one tensor per rank.
   * @returns A Work that resolves to `outputs` on the destination, to `undefined` elsewhere.
   *
   * c10d: `gather`.
   */
  gather(input: TensorLike, options: Options.GatherOptions): Work<readonly TensorLike[] | undefined> {
    return this.#run("gather", options, options?.outputs, input);
  }

  /**
   * Gathers the tensors of all ranks into one on the destination: part `rank` of the output is that rank's input.
   *
   * @param output World size times the length of the input; on the destination only, `undefined` elsewhere.
   * @param options `dst` or `groupDst` names the destination.
   *
   * c10d: `gather_single`.
   */
  gatherSingle<T extends TensorLike>(
    output: T | undefined,
    input: TensorLike,
    options: Options.GatherSingleOptions,
  ): Work<T | undefined> {
    return this.#run("gatherSingle", options, output, input);
  }

  /**
   * Scatters the source's tensors: `inputs[rank]` goes to that rank's output.
   *
   * @param options `src` or `groupSrc` names the source, which alone passes `inputs`: one tensor per rank.
   *
   * c10d: `scatter`.
   */
  scatter<T extends TensorLike>(output: T, options: Options.ScatterOptions): Work<T> {
    return this.#run("scatter", options, output, options?.inputs);
  }

  /**
   * Reduces `inputs[rank]` across all ranks into that rank's output.
   *
   * @param inputs One tensor per rank, of the length of that rank's output.
   *
   * c10d: `reduce_scatter`.
   */
  reduceScatter<T extends TensorLike>(
    output: T,
    inputs: readonly TensorLike[],
    options: Options.ReduceScatterOptions = NO_OPTIONS,
  ): Work<T> {
    return this.#run("reduceScatter", options, output, inputs);
  }

  /**
   * Reduces part `rank` of the input across all ranks into that rank's output.
   *
   * @param input World size times the length of the output. A list of outputs with an equally long list of inputs, all
   *   of one dtype, is one op where the backend supports that.
   *
   * c10d: `reduce_scatter_tensor`, `_reduce_scatter_base`, `reduce_scatter_tensor_coalesced`.
   */
  reduceScatterTensor<T extends TensorLike | readonly TensorLike[]>(
    output: T,
    input: OneOrList<T>,
    options: Options.ReduceScatterOptions = NO_OPTIONS,
  ): Work<T> {
    const lists = isTensorList(output) || isTensorList(input);
    return this.#run(lists ? "reduceScatterTensorCoalesced" : "reduceScatterTensor", options, output, input);
  }

  /**
   * Sends `inputs[rank]` to each rank and receives `outputs[rank]` from it.
   *
   * @param outputs One tensor per rank, of the length that the rank sends to this one.
   * @param inputs One tensor per rank.
   *
   * c10d: `all_to_all`.
   */
  allToAll<T extends readonly TensorLike[]>(
    outputs: T,
    inputs: readonly TensorLike[],
    options: Options.AllToAllListOptions = NO_OPTIONS,
  ): Work<T> {
    return this.#run("allToAll", options, outputs, inputs);
  }

  /**
   * Sends one part of the input to each rank and receives one part of the output from each, in rank order.
   *
   * c10d: `all_to_all_single`, `alltoall_base`.
   */
  allToAllSingle<T extends TensorLike>(
    output: T,
    input: TensorLike,
    options: Options.AllToAllSingleOptions = NO_OPTIONS,
  ): Work<T> {
    return this.#run("allToAllSingle", options, output, input);
  }

  /** Completes when all ranks have reached it. c10d: `barrier`. */
  barrier(options: Options.BarrierOptions = NO_OPTIONS): Work<void> {
    return this.#run("barrier", options, undefined, undefined);
  }

  /**
   * A barrier whose time-out error on rank 0 names the ranks that did not arrive. Slower than {@link barrier}. On a
   * backend that has none, it is made of messages with tag 16375.
   *
   * c10d: `monitored_barrier`.
   */
  monitoredBarrier(options: Options.MonitoredBarrierCallOptions = NO_OPTIONS): Work<void> {
    const { table } = this.#pipelines.default;
    const hasMessages = table.has("send", "uint8") && table.has("recv", "uint8");
    const isMissing = hasMessages && !table.hasOp("monitoredBarrier");
    return isMissing ? this.#monitoredBarrier(options) : this.#run("monitoredBarrier", options, undefined, undefined);
  }

  /**
   * Sends a tensor to one rank, which must {@link recv} it with the same tag, dtype and length. Starts immediately,
   * even while collectives are in flight.
   *
   * @param options `dst` or `groupDst` names the destination.
   *
   * c10d: `send`.
   */
  send<T extends TensorLike>(tensor: T, options: Options.SendOptions): Work<T> {
    return this.#run("send", options, undefined, tensor);
  }

  /**
   * Receives a tensor from one rank, or from any rank if none is named; `sourceRank()` of the Work returns its source.
   *
   * @param options `src` or `groupSrc` names the source.
   *
   * c10d: `recv`, `recv_anysource`.
   */
  recv<T extends TensorLike>(tensor: T, options: Options.RecvOptions = NO_OPTIONS): Work<T> {
    return this.#run("recv", options, tensor, undefined);
  }

  /** Same as {@link send}, since every op returns a Work. c10d: `isend`. */
  isend<T extends TensorLike>(tensor: T, options: Options.SendOptions): Work<T> {
    return this.send(tensor, options);
  }

  /** Same as {@link recv}, since every op returns a Work. c10d: `irecv`. */
  irecv<T extends TensorLike>(tensor: T, options: Options.RecvOptions = NO_OPTIONS): Work<T> {
    return this.recv(tensor, options);
  }

  /**
   * Starts a list of sends and receives of this group together. If one of them is refused, none is sent and all Works
   * reject.
   *
   * @returns One Work per message, in the order of `ops`.
   *
   * c10d: `batch_isend_irecv`.
   */
  batchIsendIrecv(ops: readonly P2POp<ProcessGroup>[]): Work<TensorLike>[] {
    const callSite = this.#callSite();
    const refused = (error: unknown, opType: OpType) => this.#works.refused<TensorLike>(error, opType, callSite);
    try {
      const group = requireBatch(ops);
      if (group === undefined || group === this) return startBatch(this, ops, refused);
      const message = `batchIsendIrecv: the ops name a group other than "${this.name}", on which it was called`;
      throw new InvalidArgumentError(message, { op: "batchIsendIrecv", argument: "ops", group: this.name });
    } catch (error) {
      return refuseBatch(ops, error, refused);
    }
  }

  /**
   * Submits the ops that `body` calls on this group together. Adjacent all-reduces of one dtype and reduce op are
   * merged into one op where the backend supports that, and so are `allGatherIntoTensor` and `reduceScatterTensor`; the
   * order is kept. All ranks must make the same calls.
   *
   * @param body Calls ops and returns; must not be async. The returned Work ends when all their Works have. If an op is
   *   refused, or `body` throws, nothing is sent.
   *
   * c10d: `_coalescing_manager`.
   */
  coalescing(body: () => void): Work<void> {
    const callSite = this.#callSite();
    try {
      this.#life.requireOpen("coalescing");
    } catch (error) {
      return this.#works.refused(error, OpType.COALESCED, callSite);
    }
    return this.#dispatcher.coalescing(body, callSite);
  }

  /**
   * Gathers one object per rank on every rank, in rank order.
   *
   * c10d: `all_gather_object`.
   */
  allGatherObject<T>(object: T, options: Options.AllGatherObjectOptions = NO_OPTIONS): Work<T[]> {
    return this.#objects("allGatherObject", OpType.ALLGATHER, ["allGatherIntoTensor"], options, (pack) => {
      const packed = pack(object);
      return { steps: (call) => objects.allGatherObjects(call, packed) };
    });
  }

  /**
   * Gathers one object per rank on the destination, in rank order.
   *
   * @param options `dst` or `groupDst` names the destination.
   * @returns A Work that resolves to the objects on the destination, to `undefined` elsewhere.
   *
   * c10d: `gather_object`.
   */
  gatherObject<T>(object: T, options: Options.GatherObjectOptions): Work<T[] | undefined> {
    return this.#objects("gatherObject", OpType.GATHER, ["allGatherIntoTensor", "gather"], options, (pack) => {
      const root = this.#ranks.rankFrom("gatherObject", "dst", options);
      const packed = pack(object);
      return { root, steps: (call) => objects.gatherObjects(call, packed, root) };
    });
  }

  /**
   * Copies the source's object to all ranks.
   *
   * @param object Used on the source only.
   * @param options `src` or `groupSrc` names the source.
   * @returns A Work that resolves to the object; the source gets a copy, too.
   *
   * c10d: `broadcast_object_list`.
   */
  broadcastObject<T>(object: T | undefined, options: Options.BroadcastObjectOptions): Work<T> {
    return this.#objects("broadcastObject", OpType.BROADCAST, ["broadcast"], options, (pack) => {
      const root = this.#ranks.rankFrom("broadcastObject", "src", options);
      const packed = this.rank === root ? pack(object) : undefined;
      return { root, steps: (call) => objects.broadcastObject(call, packed, root) };
    });
  }

  /**
   * Scatters the source's objects: each rank gets `list[rank]`.
   *
   * @param list On the source one object per rank, elsewhere `undefined`.
   * @param options `src` or `groupSrc` names the source.
   *
   * c10d: `scatter_object_list`.
   */
  scatterObject<T>(list: readonly T[] | undefined, options: Options.ScatterObjectOptions): Work<T> {
    const name = "scatterObject";
    return this.#objects(name, OpType.SCATTER, ["broadcast", "scatter"], options, (pack) => {
      const root = this.#ranks.rankFrom(name, "src", options);
      const packed = this.rank === root ? Array.from(this.#objectPerRank(name, list), (each) => pack(each)) : undefined;
      return { root, steps: (call) => objects.scatterObjects(call, packed, root) };
    });
  }

  /**
   * Sends an object to one rank, which must {@link recvObject} it with the same tag.
   *
   * c10d: `send_object_list`.
   */
  sendObject(object: unknown, options: Options.SendObjectOptions): Work<void> {
    return this.#objects("sendObject", OpType.SEND, ["send"], options, (pack) => {
      const peer = this.#ranks.otherNamedBy("sendObject", "dst", options);
      const tag = requireTag("sendObject", options.tag);
      const packed = pack(object);
      return { peer, tag, steps: (call) => objects.sendObject(call, packed, peer, tag) };
    });
  }

  /**
   * Receives an object from one rank, or from any rank if none is named; `sourceRank()` of the Work returns its source.
   *
   * c10d: `recv_object_list`.
   */
  recvObject<T>(options: Options.RecvObjectOptions = NO_OPTIONS): Work<T> {
    const any = options?.src === undefined && options?.groupSrc === undefined;
    const opType = any ? OpType.RECV_ANY_SOURCE : OpType.RECV;
    return this.#objects("recvObject", opType, ["recv"], options, () => {
      const peer = any ? -1 : this.#ranks.otherNamedBy("recvObject", "src", options);
      if (any) this.#pipelines.forHost("recvObject").table.requireAnySource();
      const tag = requireTag("recvObject", options.tag);
      return { peer, tag, steps: (call, cameFrom) => objects.recvObject(call, peer, tag, cameFrom) };
    });
  }

  /** Where user code called the op that is being started; `undefined` with C10D_CALL_SITES=0. */
  #callSite(): CallSite | undefined {
    return this.#capturesCallSites ? captureCallSite() : undefined;
  }

  /** Reads the arguments of an op and starts it. Errors become a rejected Work, never an exception. */
  #run<T>(op: OpName, options: AnyCallOptions, outputs: Given, inputs: Given): Work<T> {
    const opType = opTable[op].opType;
    const callSite = this.#callSite();
    try {
      this.#life.requireOpen(opTable[op].api);
      const call = this.#reader.read(op, options, outputs, inputs, callSite);
      const pipeline = this.#pipelines.forCall(call);
      const calls = callsFor(call, pipeline.table, this.size);
      // The Work resolves to the caller's own tensor or list.
      return this.#dispatcher.start(pipeline, call, calls, op === "send" ? inputs : outputs);
    } catch (error) {
      return this.#dispatcher.refuse(error, op === "recv" ? recvType(options) : opType, callSite);
    }
  }

  #monitoredBarrier(options: Options.MonitoredBarrierCallOptions): Work<void> {
    const op = "monitoredBarrier";
    return this.#runSteps<void>(op, OpType.BARRIER, () => {
      const { timeoutMs, waitAllRanks } = this.#reader.read(op, options, undefined, undefined);
      const pipeline = this.#pipelines.forHost(op);
      const { name: group, rank, size } = this;
      const backend = pipeline.plugin.name;
      const seq = ++this.#monitoredBarriers;
      const missed = (ranks: readonly number[], cause: unknown) => {
        if (!(cause instanceof DistTimeoutError)) return cause;
        const peers = waitAllRanks ? ranks : ranks.slice(0, 1);
        const verb = peers.length === 1 ? "has" : "have";
        return new DistTimeoutError(
          `${op} #${seq} on group "${group}" (${backend}, rank ${rank} of ${size}): timed out after ${timeoutMs} ms: ${ranksText(peers)} ${verb} not reached it`,
          { code: "OP_TIMEOUT", backend, group, op, seq, rank, peers, timeoutMs, cause },
        );
      };
      // The others wait for rank 0, which knows more.
      const submit = stepsWithin(pipeline, rank === 0 ? timeoutMs : timeoutMs + GRACE_MS);
      return { seq, steps: () => monitoredBarrier({ rank, size, submit, missed }), timeoutMs };
    });
  }

  #allReduceSparse(tensor: SparseTensor, options: Options.AllReduceOptions): Work<SparseTensor> {
    const name = "allReduce";
    const opType = OpType.ALLREDUCE_SPARSE;
    return this.#runSteps(name, opType, () => {
      requireOptions(name, options);
      requireStepOptionNames("allReduceSparse", name, options);
      const op = requireReduceOp(name, options.op);
      const timeoutMs = requireTimeout(name, options.timeout, this.timeoutMs);
      if (op !== ReduceOp.SUM) {
        throw new UnsupportedOperationError(
          `${name}: sparse tensors can only be summed, not reduced by ReduceOp.${op}`,
          { op: name, argument: "op" },
        );
      }
      const pipeline = this.#pipelines.forHost(name);
      pipeline.table.require("allReduceSparse", tensor.dtype);
      // With each index once, less is sent and values are added in rank order.
      const own = tensor.coalesce();
      const submit = stepsWithin(pipeline, timeoutMs);
      return { steps: () => allReduceSparse(own, this.rank, this.size, submit), timeoutMs };
    });
  }

  /**
   * Starts an object collective behind those in flight.
   * @param prepare Checks the arguments, packs the objects and returns the steps; called immediately.
   */
  #objects<T>(
    op: Exclude<SteppedOpName, "allReduceSparse">,
    opType: OpType,
    needs: readonly Operation[],
    options: Options.ObjectOptions & { readonly tag?: number },
    prepare: (pack: (object: unknown) => objects.PackedObject) => Pick<WholeTerms, "peer" | "root" | "tag"> & {
      readonly steps: (call: objects.ObjectCall, cameFrom: (groupRank: number) => void) => Steps<unknown>;
    },
  ): Work<T> {
    return this.#runSteps<T>(op, opType, () => {
      requireOptions(op, options);
      requireStepOptionNames(op, op, options);
      const timeoutMs = requireTimeout(op, options.timeout, this.timeoutMs);
      const maxBytes = options.maxBytes ?? MAX_OBJECT_BYTES;
      if (!Number.isSafeInteger(maxBytes) || maxBytes < 1) {
        throw new InvalidArgumentError(`${op}: maxBytes must be a positive integer, got ${describe(maxBytes)}`, {
          op,
          argument: "maxBytes",
        });
      }
      const pipeline = this.#pipelines.forHost(op);
      for (const need of needs) requireComposable(need, pipeline.table, "uint8");
      let refusal: DistError | undefined;
      const { steps, ...terms } = prepare((object) => {
        const packed = objects.packObject(op, maxBytes, object);
        refusal ??= packed.error;
        return packed;
      });
      const { rank, size } = this;
      const call = { op, rank, size, maxBytes, submit: stepsWithin(pipeline, timeoutMs) };
      return {
        // The result is what was packed, of the type that the caller claims.
        steps: (cameFrom) => steps(call, cameFrom) as Steps<T>,
        refusal,
        timeoutMs,
        ...terms,
        ...(isMessage(opType) && { queue: `${op} ${terms.tag}` }),
      };
    });
  }

  /** Starts a multi-step op; `prepare` checks its arguments and is called immediately. */
  #runSteps<T>(op: string, opType: OpType, prepare: () => Omit<SteppedOp<T>, "op" | "opType">): Work<T> {
    const callSite = this.#callSite();
    try {
      this.#life.requireOpen(op);
      if (this.#dispatcher.isCoalescing) {
        throw new InvalidArgumentError(`${op}: an op of several steps cannot be coalesced`, { op });
      }
      return this.#dispatcher.startSteps({ op, opType, callSite, ...prepare() });
    } catch (error) {
      return this.#dispatcher.refuse(error, opType, callSite);
    }
  }

  #objectPerRank<T>(op: string, list: readonly T[] | undefined): readonly T[] {
    if (Array.isArray(list) && list.length === this.size) return list;
    const given = Array.isArray(list) ? `${list.length} objects` : describe(list);
    throw new InvalidArgumentError(`${op}: the source must pass one object per rank (${this.size}), got ${given}`, {
      op,
      argument: "objects",
    });
  }
}

/** The op type of a refused recv. */
function recvType(options: AnyCallOptions | null): OpType {
  return options?.src === undefined && options?.groupSrc === undefined ? OpType.RECV_ANY_SOURCE : OpType.RECV;
}

standsFor("send", ProcessGroup.prototype.send, ProcessGroup.prototype.isend);
standsFor("recv", ProcessGroup.prototype.recv, ProcessGroup.prototype.irecv);

let isOldNameReported = false;

/** PyTorch's variable of that name is deprecated, and read with a warning. */
function timingByOldName(): boolean {
  const isOn = environmentFlag("NCCL_ENABLE_TIMING");
  if (isOn && !isOldNameReported) {
    isOldNameReported = true;
    warn("Environment variable NCCL_ENABLE_TIMING is deprecated; use TORCH_NCCL_ENABLE_TIMING instead");
  }
  return isOn;
}
