import {
  isMessage,
  isTensorList,
  type Operation,
  type OpName,
  OpType,
  opNames,
  opTable,
  ReduceOp,
  requireOptions,
  requireReduceOp,
  requireTag,
  requireTimeout,
} from "../collectives/index.ts";
import {
  brand,
  DistError,
  describe,
  InvalidArgumentError,
  messageOf,
  UnsupportedOperationError,
  warn,
} from "../errors/index.ts";
import { FlightRecorder } from "../recorder/index.ts";
import type { Backend, BackendPlugin, BackendType } from "../registry/index.ts";
import { type Device, type DeviceType, SparseTensor, type TensorLike } from "../tensor/index.ts";
import type { GroupState, Steps, Work } from "../work/index.ts";
import type * as Options from "./arguments/call-options.ts";
import { type AnyCallOptions, CallReader, type Given } from "./arguments/call-reader.ts";
import { requireStepOptionNames, type SteppedOpName } from "./arguments/option-names.ts";
import { RankNames } from "./arguments/rank-names.ts";
import { callAll, GroupLife } from "./group-life.ts";
import { GroupWorks, type WholeTerms } from "./group-works.ts";
import { type P2POp, refuseBatch, requireBatch, standsFor, startBatch } from "./message-batch.ts";
import * as objects from "./objects/object-collectives.ts";
import { OpDispatcher, type SteppedOp } from "./op-dispatcher.ts";
import type { Pipeline } from "./pipeline/pipeline.ts";
import { type BackendKey, Pipelines } from "./pipeline/pipelines.ts";
import { callsFor, requireWay } from "./steps/composed-calls.ts";
import { allReduceSparse } from "./steps/sparse-all-reduce.ts";
import { stepsWithin } from "./steps/submit-step.ts";

/** What a group is made of. */
export interface ProcessGroupInit {
  readonly name: string;
  readonly description: string;
  readonly rank: number;
  readonly globalRanks: readonly number[];
  readonly timeoutMs: number;
  readonly pipelines: readonly Pipeline[];
  /** The device that this rank uses of its kind, if there are several. */
  readonly boundDevice?: Device | undefined;
  /** Records the ops of the group; nothing does by default. */
  readonly recorder?: FlightRecorder;
  /** Called once, when the group has been closed. */
  readonly onClose?: () => Promise<void>;
}

/** A tensor where the other argument is one, a list where it is a list. */
export type OneOrList<T> = T extends readonly TensorLike[] ? readonly TensorLike[] : TensorLike;

/** Limit of one object in an object collective, unless the call says otherwise. */
const MAX_OBJECT_BYTES = 64 * 2 ** 20;
const NO_OPTIONS = Object.freeze({});

/**
 * A group of ranks. Ops go to the backend of their tensors' device; all ranks issue the collectives of one group in the
 * same order, with the same dtypes and sizes.
 *
 * Tensors are lent to an op until its Work has ended: nobody else writes to them meanwhile, and their buffers stay where
 * they are. Detaching a buffer loses the result (`DETACHED_BUFFER`), and with more than 4 KB in the op the group, since
 * native code may have damaged other memory by then; that of `empty()` cannot be detached. Tensors that an op writes to
 * overlap nothing else of the call, but for what a rank gives to itself (`OVERLAPPING_TENSORS`). See docs/tensors.md.
 *
 * Every op returns a {@link Work}. It rejects with InvalidArgumentError or UnsupportedOperationError when nothing was
 * sent, else with DistTimeoutError, DistNetworkError or DistBackendError, after which the group has failed.
 *
 * The object collectives take plain data (docs/objects.md): what JSON has, undefined, bigint, Date, Map, Set, ArrayBuffer
 * and TypedArrays, of which receivers get copies. An object is encoded at the call; one that would arrive as something
 * else is refused (`OBJECT_NOT_SENDABLE`). They take several steps; collectives that are called meanwhile start after
 * them. All ranks of the group have to be Bun ranks.
 *
 * `await using` a group aborts what is in flight at the end of the block and closes it within a second;
 * `destroyProcessGroup()` waits for it instead.
 *
 * c10d: `ProcessGroup`.
 */
export class ProcessGroup implements AsyncDisposable {
  static {
    brand(ProcessGroup, "ProcessGroup");
  }

  /** "0" is the default group. */
  readonly name: string;
  /** What the group is for, as whoever made it has said. */
  readonly description: string;
  /** Rank in this group. */
  readonly rank: number;
  /** Global rank of each rank of this group. */
  readonly globalRanks: readonly number[];
  /** Default limit of ops, in milliseconds. */
  readonly timeoutMs: number;
  /** The device that this rank uses of its kind, if it was bound to one. c10d: `bound_device_id`. */
  readonly boundDevice: Device | undefined;
  readonly #ranks: RankNames;
  readonly #pipelines: Pipelines;
  readonly #life: GroupLife;
  readonly #works: GroupWorks;
  readonly #reader: CallReader;
  readonly #dispatcher: OpDispatcher;

  constructor(init: ProcessGroupInit) {
    const {
      name,
      description,
      rank,
      globalRanks,
      timeoutMs,
      pipelines,
      boundDevice,
      recorder = new FlightRecorder({ capacity: 0 }),
      onClose,
    } = init;
    this.name = name;
    this.description = description;
    this.rank = rank;
    this.globalRanks = globalRanks;
    this.timeoutMs = timeoutMs;
    this.boundDevice = boundDevice;
    this.#ranks = new RankNames(name, rank, globalRanks);
    this.#pipelines = new Pipelines(name, pipelines);
    this.#life = new GroupLife(name, rank, pipelines, onClose);
    const backends = pipelines.map(({ plugin }) => plugin.name);
    // Not the group itself, which the recorder would hold beyond its end.
    const recorded = { name, description, rank, globalRanks };
    this.#works = new GroupWorks(this.#ranks, this.#life, recorder, recorded, backends);
    this.#reader = new CallReader(this.#ranks, timeoutMs, this.#pipelines.defaultDevice);
    const requireOpen = (op: string) => this.#life.requireOpen(op);
    this.#dispatcher = new OpDispatcher({ name, pipelines, requireOpen }, this.#works);
  }

  /** Number of ranks. */
  get size(): number {
    return this.globalRanks.length;
  }

  /** OPEN while all its backends are. */
  get state(): GroupState {
    return this.#life.state;
  }

  /** Name of a backend, e.g. `gloo`; by default of that for CPU tensors. */
  backendName(of?: BackendKey): string {
    return this.plugin(of).name;
  }

  /** c10d's type of a backend. */
  backendType(of?: BackendKey): BackendType {
    return this.plugin(of).type;
  }

  /** A backend of the group: by the device of the tensors that it takes, or by its type. */
  backend(of?: BackendKey): Backend {
    return this.pipeline(of).backend;
  }

  /** The plugin that made a backend. */
  plugin(of?: BackendKey): BackendPlugin {
    return this.pipeline(of).plugin;
  }

  /** The way of the calls to a backend. */
  pipeline(of?: BackendKey): Pipeline {
    return of === undefined ? this.#pipelines.default : this.#pipelines.of(of);
  }

  /** Device types that have a backend. */
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
   * Measures how long each op is in the native library from now on, which `work.info().activeDuration` is then; without it, and on
   * backends without a library, that is the time from the call to the end. It costs a small op about 0.1 µs. c10d:
   * `_enable_collectives_timing`.
   */
  enableCollectivesTiming(): void {
    callAll("enableTiming()", this.#pipelines.all, (pipeline) => pipeline.enableTiming());
  }

  /** Fails what is in flight, and the group with it. */
  abort(reason = "the group was aborted"): void {
    this.#life.abort(reason);
  }

  /**
   * Waits for what is in flight, closes the group, and throws the first error that nobody has looked at.
   * @param limitMs Limit of the waiting, after which the rest is aborted.
   */
  drain(limitMs: number): Promise<void> {
    return this.#life.drain(limitMs, this.#works, this.#dispatcher);
  }

  /**
   * Aborts what is in flight and closes the group. The built-in backends take a second at most; one that takes more than ten is
   * given up, by a `DistTimeoutError`. Does nothing the second time.
   */
  close(): Promise<void> {
    return this.#life.close();
  }

  /**
   * {@link close}, for `await using`. It never rejects, since its error would hide that of a block that threw: what goes
   * wrong in closing is a process warning (`DistWarning`) with its code.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close().catch((error: unknown) => {
      const code = error instanceof DistError ? error.code : undefined;
      warn(`closing group "${this.name}" at the end of its block failed: ${messageOf(error)}`, code);
    });
  }

  toString(): string {
    return `<ProcessGroup "${this.name}" rank ${this.rank}/${this.size} ${this.state}>`;
  }

  /**
   * Reduces a tensor over all ranks, in place on all of them; a list of tensors of one dtype is reduced as one op.
   *
   * Of a {@link SparseTensor}, all ranks get the sum as a new one, with each index once; its own is left as it is. That
   * takes several steps; it adds only (`ReduceOp.SUM`).
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
   * Reduces a tensor over all ranks into the destination's. What the others' tensors hold afterwards is unspecified.
   *
   * @param options `dst` or `groupDst` names the destination.
   *
   * c10d: `reduce`.
   */
  reduce<T extends TensorLike>(tensor: T, options: Options.ReduceToOptions): Work<T> {
    return this.#run("reduce", options, tensor, undefined);
  }

  /**
   * Collects the tensors of all ranks on all of them.
   *
   * @param outputs One tensor per rank, each of the input's length.
   * @param input The own tensor, of the same length on all ranks.
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
   * Collects the tensors of all ranks in one: part `rank` of the output is that rank's input.
   *
   * @param output World size times the length of the input. A list of outputs with a list of as many inputs, all of one
   *   dtype, is one op where the backend can do that.
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
   * Collects the tensors of all ranks on the destination.
   *
   * @param options `dst` or `groupDst` names the destination, which alone gives `outputs`: one tensor per rank.
   * @returns Work of `outputs` on the destination, of `undefined` elsewhere.
   *
   * c10d: `gather`.
   */
  gather(input: TensorLike, options: Options.GatherOptions): Work<readonly TensorLike[] | undefined> {
    return this.#run("gather", options, options?.outputs, input);
  }

  /**
   * Collects the tensors of all ranks in one on the destination: part `rank` of the output is that rank's input.
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
   * Distributes the tensors of the source: `inputs[rank]` goes to that rank's output.
   *
   * @param options `src` or `groupSrc` names the source, which alone gives `inputs`: one tensor per rank.
   *
   * c10d: `scatter`.
   */
  scatter<T extends TensorLike>(output: T, options: Options.ScatterOptions): Work<T> {
    return this.#run("scatter", options, output, options?.inputs);
  }

  /**
   * Reduces `inputs[rank]` of all ranks into that rank's output.
   *
   * @param inputs One tensor per rank, as long as that rank's output.
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
   * Reduces part `rank` of the inputs of all ranks into that rank's output.
   *
   * @param input World size times the length of the output. A list of outputs with a list of as many inputs, all of one
   *   dtype, is one op where the backend can do that.
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
   * @param outputs One tensor per rank, as long as what that rank sends here.
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
   * Sends a part of the input to each rank and receives a part of the output from it, in the order of ranks.
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

  /** Completes when all ranks have come to it. c10d: `barrier`. */
  barrier(options: Options.BarrierOptions = NO_OPTIONS): Work<void> {
    return this.#run("barrier", options, undefined, undefined);
  }

  /**
   * A barrier whose time-out, on rank 0, names the ranks that did not come. Slower than {@link barrier}.
   *
   * c10d: `monitored_barrier`.
   */
  monitoredBarrier(options: Options.MonitoredBarrierCallOptions = NO_OPTIONS): Work<void> {
    return this.#run("monitoredBarrier", options, undefined, undefined);
  }

  /**
   * Sends a tensor to one rank, which has to {@link recv} it with the same tag, dtype and length. Starts at once, also
   * while collectives are under way.
   *
   * @param options `dst` or `groupDst` names the destination.
   *
   * c10d: `send`.
   */
  send<T extends TensorLike>(tensor: T, options: Options.SendOptions): Work<T> {
    return this.#run("send", options, undefined, tensor);
  }

  /**
   * Receives a tensor from one rank, or from any if none is named; `sourceRank()` of the Work tells from which.
   *
   * @param options `src` or `groupSrc` names the source.
   *
   * c10d: `recv`, `recv_anysource`.
   */
  recv<T extends TensorLike>(tensor: T, options: Options.RecvOptions = NO_OPTIONS): Work<T> {
    return this.#run("recv", options, tensor, undefined);
  }

  /** {@link send}; every op returns a Work, so there is no difference. c10d: `isend`. */
  isend<T extends TensorLike>(tensor: T, options: Options.SendOptions): Work<T> {
    return this.send(tensor, options);
  }

  /** {@link recv}; every op returns a Work, so there is no difference. c10d: `irecv`. */
  irecv<T extends TensorLike>(tensor: T, options: Options.RecvOptions = NO_OPTIONS): Work<T> {
    return this.recv(tensor, options);
  }

  /**
   * Starts a list of sends and receives of this group together. If one of them is refused, none is sent and the Works of
   * all reject.
   *
   * @returns A Work for each, in their order.
   *
   * c10d: `batch_isend_irecv`.
   */
  batchIsendIrecv(ops: readonly P2POp<ProcessGroup>[]): Work<TensorLike>[] {
    const refused = (error: unknown, opType: OpType) => this.#works.refused<TensorLike>(error, opType);
    try {
      const group = requireBatch(ops);
      if (group === undefined || group === this) return startBatch(this, ops, refused);
      const message = `batchIsendIrecv: the messages name another group than "${this.name}", whose method this is`;
      throw new InvalidArgumentError(message, { op: "batchIsendIrecv", argument: "ops", group: this.name });
    } catch (error) {
      return refuseBatch(ops, error, refused);
    }
  }

  /**
   * Submits the ops that `body` calls on this group together. Neighbouring all-reduces of one dtype and reduce op become
   * one op where the backend can do that, and so do `allGatherIntoTensor` and `reduceScatterTensor`; the rest follow in
   * their order. All ranks make the same calls.
   *
   * @param body Calls ops and returns; their Works end with the whole. If one of them is refused, or `body` throws,
   *   nothing is sent. It must not be async.
   *
   * c10d: `_coalescing_manager`.
   */
  coalescing(body: () => void): Work<void> {
    try {
      this.#life.requireOpen("coalescing");
    } catch (error) {
      return this.#works.refused(error, OpType.COALESCED);
    }
    return this.#dispatcher.coalescing(body);
  }

  /**
   * Collects an object of each rank on all of them, in the order of ranks.
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
   * Collects an object of each rank on the destination.
   *
   * @param options `dst` or `groupDst` names the destination.
   * @returns Work of the objects on the destination, of `undefined` elsewhere.
   *
   * c10d: `gather_object`.
   */
  gatherObject<T>(object: T, options: Options.GatherObjectOptions): Work<T[] | undefined> {
    return this.#objects("gatherObject", OpType.GATHER, ["allGatherIntoTensor", "gather"], options, (pack) => {
      const root = this.#ranks.namedBy("gatherObject", "dst", options);
      const packed = pack(object);
      return { root, steps: (call) => objects.gatherObjects(call, packed, root) };
    });
  }

  /**
   * Copies the source's object to all ranks.
   *
   * @param object Looked at on the source only.
   * @param options `src` or `groupSrc` names the source.
   * @returns Work of the object; the source gets a copy too.
   *
   * c10d: `broadcast_object_list`.
   */
  broadcastObject<T>(object: T | undefined, options: Options.BroadcastObjectOptions): Work<T> {
    return this.#objects("broadcastObject", OpType.BROADCAST, ["broadcast"], options, (pack) => {
      const root = this.#ranks.namedBy("broadcastObject", "src", options);
      const packed = this.rank === root ? pack(object) : undefined;
      return { root, steps: (call) => objects.broadcastObject(call, packed, root) };
    });
  }

  /**
   * Distributes the source's objects: each rank gets the one at its rank.
   *
   * @param objects On the source one object per rank, elsewhere `undefined`.
   * @param options `src` or `groupSrc` names the source.
   *
   * c10d: `scatter_object_list`.
   */
  scatterObject<T>(list: readonly T[] | undefined, options: Options.ScatterObjectOptions): Work<T> {
    const name = "scatterObject";
    return this.#objects(name, OpType.SCATTER, ["broadcast", "scatter"], options, (pack) => {
      const root = this.#ranks.namedBy(name, "src", options);
      const packed = this.rank === root ? Array.from(this.#objectPerRank(name, list), (each) => pack(each)) : undefined;
      return { root, steps: (call) => objects.scatterObjects(call, packed, root) };
    });
  }

  /**
   * Sends an object to one rank, which has to {@link recvObject} it with the same tag.
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
   * Receives an object from one rank, or from any if none is named; `sourceRank()` of the Work tells from which.
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

  /** Reads the arguments of an op and starts it; whatever is wrong with it becomes a rejected Work, never an exception. */
  #run<T>(op: OpName, options: AnyCallOptions, outputs: Given, inputs: Given): Work<T> {
    const opType = opTable[op].opType;
    try {
      this.#life.requireOpen(opNames[opType]);
      const call = this.#reader.read(op, options, outputs, inputs);
      const pipeline = this.#pipelines.forCall(call);
      const calls = callsFor(call, pipeline.table, this.size);
      // The caller's own tensor or list: what was written to, or sent.
      return this.#dispatcher.start(pipeline, call, calls, op === "send" ? inputs : outputs);
    } catch (error) {
      return this.#dispatcher.refuse(error, op === "recv" ? recvType(options) : opType);
    }
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
          `${name}: sparse tensors can be added only, not combined by ReduceOp.${op}`,
          { op: name, argument: "op" },
        );
      }
      const pipeline = this.#pipelines.forHost(name);
      pipeline.table.require("allReduceSparse", tensor.dtype);
      // Each index once: fewer to send, and the order in which values are added is that of ranks.
      const own = tensor.coalesce();
      const submit = stepsWithin(pipeline, timeoutMs);
      return { steps: () => allReduceSparse(own, this.rank, this.size, submit), timeoutMs };
    });
  }

  /**
   * Starts an object collective behind those that are under way.
   * @param prepare Checks the arguments and packs the objects, which happens at once, and returns the steps.
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
      for (const need of needs) requireWay(need, pipeline.table, "uint8");
      let refusal: DistError | undefined;
      const { steps, ...terms } = prepare((object) => {
        const packed = objects.packObject(op, maxBytes, object);
        refusal ??= packed.error;
        return packed;
      });
      const { rank, size } = this;
      const call = { op, rank, size, maxBytes, submit: stepsWithin(pipeline, timeoutMs) };
      return {
        // What comes out is what was packed, of the type that the caller says it has.
        steps: (cameFrom) => steps(call, cameFrom) as Steps<T>,
        refusal,
        timeoutMs,
        ...terms,
        ...(isMessage(opType) && { queue: `${op} ${terms.tag}` }),
      };
    });
  }

  /** Starts an op of several steps; `prepare` checks its arguments, which happens at once. */
  #runSteps<T>(op: string, opType: OpType, prepare: () => Omit<SteppedOp<T>, "op" | "opType">): Work<T> {
    try {
      this.#life.requireOpen(opNames[opType]);
      if (this.#dispatcher.isCoalescing) {
        throw new InvalidArgumentError(`${op}: what takes several steps cannot be coalesced`, { op });
      }
      return this.#dispatcher.startSteps({ op, opType, ...prepare() });
    } catch (error) {
      return this.#dispatcher.refuse(error, opType);
    }
  }

  #objectPerRank<T>(op: string, list: readonly T[] | undefined): readonly T[] {
    if (Array.isArray(list) && list.length === this.size) return list;
    const given = Array.isArray(list) ? `${list.length} objects` : describe(list);
    throw new InvalidArgumentError(`${op}: the source gives one object per rank (${this.size}), got ${given}`, {
      op,
      argument: "objects",
    });
  }
}

/** What a recv that was refused was to be. */
function recvType(options: AnyCallOptions | null): OpType {
  return options?.src === undefined && options?.groupSrc === undefined ? OpType.RECV_ANY_SOURCE : OpType.RECV;
}

standsFor("send", ProcessGroup.prototype.send, ProcessGroup.prototype.isend);
standsFor("recv", ProcessGroup.prototype.recv, ProcessGroup.prototype.irecv);
