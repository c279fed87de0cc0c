import { isUint8Array } from "node:util/types";
import { isMessage, OpType } from "../collectives/op-type.ts";
import { type DistError, DistStoreError } from "../errors/index.ts";
import {
  NativeGroup,
  type NativeGroupHost,
  NativeRefusal,
  type NativeStats,
  NativeWork,
  NEVER_SUBMITTED,
  type OpFields,
  OpFlag,
  OpRecord,
  type Shim,
  type StagedMemory,
  Status,
} from "../native/index.ts";
import {
  type AllToAllOptions,
  Backend,
  type BackendContext,
  type MessageOptions,
  type MonitoredBarrierOptions,
  type OpOptions,
  type ReduceOptions,
  type ReduceToRootOptions,
  type RootOptions,
} from "../registry/index.ts";
import {
  detachGuard,
  dtypes,
  memoryKindOf,
  type SparseTensor,
  STAGED_BYTES,
  type TensorView,
  viewTensor,
} from "../tensor/index.ts";
import { type GroupState, Work } from "../work/index.ts";
import { NativeFailures } from "./native-failures.ts";
import { allReduceSparse } from "./sparse-all-reduce.ts";
import { StagedTensor, StagedTensors } from "./staged-tensors.ts";

/** How long `close()` waits for aborted ops, and how long it takes in all. */
const ABORT_LIMIT_MS = 900;
const CLOSE_LIMIT_MS = 1_000;

/** Every submission fills in this record again; there is one per thread, and nothing yields in between. */
const record = new OpRecord();

/** Mutable so that no object is made per op. */
const fields = {
  opcode: 0,
  dtype: 0,
  reduceOp: 0,
  peer: -1,
  tag: 0,
  flags: 0,
  timeoutMs: 0,
  premulFactor: 1,
} satisfies OpFields;

/**
 * A backend over a shim: fills in the op record, makes the one native call, and turns native failures into errors that
 * name op, group and culprit. A backend of this kind adds its plugin, its options and its capability table.
 */
export class NativeBackend extends Backend {
  /** Connects a backend through `shim`. `options` go to the shim as they are. */
  static async connect(
    shim: Shim,
    context: BackendContext,
    options: Readonly<Record<string, string>>,
  ): Promise<NativeBackend> {
    const backend = new NativeBackend(shim.name, context);
    backend.#group = await NativeGroup.create(
      shim,
      {
        rank: context.rank,
        worldSize: context.size,
        device: context.device.index,
        timeoutMs: context.timeoutMs,
        options,
      },
      backend.#host,
    );
    return backend;
  }

  override readonly name: string;
  readonly #context: BackendContext;
  readonly #failures: NativeFailures;
  readonly #host: NativeGroupHost;
  #group: NativeGroup | undefined;
  #storeError: unknown;
  #collectives = 0;
  #messages = 0;
  readonly #source = { sourceRank: (groupRank: number): number => this.#context.globalRanks[groupRank] ?? groupRank };

  private constructor(name: string, context: BackendContext) {
    super(context.rank, context.size);
    this.name = name;
    this.#context = context;
    const failures = new NativeFailures(name, context);
    this.#failures = failures;
    const limits = { timeout: context.timeoutMs };
    this.#host = {
      storeSet: (key, value) => this.#ask(() => context.store.set(key, value, limits)),
      storeGet: (key) => this.#ask(async () => requireBytes(key, await context.store.get(key, limits))),
      log: (text) => context.logger.warn(text),
      errorNow: (failure, work) => failures.now(failure, work),
      errorAfterConsulting: (failure, work) => failures.afterConsulting(failure, work),
      creationError: (failure) => this.#creationError(failures.ofCreation(failure)),
    };
  }

  /** A call of the store. It may be a user's own: what it throws at once must not end the event loop's callback. */
  async #ask<T>(call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (error) {
      this.#storeError ??= error;
      throw error;
    }
  }

  /** Native code knows only that the exchange has failed, not that it was the store. */
  #creationError(error: DistError): DistError {
    const cause = this.#storeError;
    if (!(cause instanceof DistStoreError)) return error;
    return new DistStoreError(error.message, { ...error.details, code: cause.code, cause });
  }

  override get state(): GroupState {
    return this.#group?.state ?? "OPEN";
  }

  override get inFlight(): number {
    return this.#group?.inFlight ?? 0;
  }

  /** Counters of the native engine. */
  stats(): NativeStats | undefined {
    return this.#group?.stats();
  }

  override allReduce(tensor: TensorView, options: ReduceOptions): Work<unknown> {
    this.#describe(OpType.ALLREDUCE, tensor, options.timeoutMs, -1);
    this.#reduceBy(options);
    return this.#submitInPlace(OpType.ALLREDUCE, tensor, options);
  }

  override allReduceCoalesced(tensors: readonly TensorView[], options: ReduceOptions): Work<unknown> {
    this.#describe(OpType.ALLREDUCE_COALESCED, tensors[0], options.timeoutMs, -1);
    this.#reduceBy(options);
    return this.#submitLists(OpType.ALLREDUCE_COALESCED, options, [], tensors, sourcesOf(tensors));
  }

  override allReduceSparse(tensor: SparseTensor, { timeoutMs, owner }: OpOptions): Work<unknown> {
    const opType = OpType.ALLREDUCE_SPARSE;
    const sum = allReduceSparse(tensor, this.rank, this.size, timeoutMs, {
      terms: (own, all, limits) => {
        const input = viewTensor(own);
        this.#describe(opType, input, limits.timeoutMs, -1);
        return this.#submitLists(opType, limits, [input], [viewTensor(all)], undefined);
      },
      // The second half of the same op: it has the number and the tag of the first.
      parts: (own, counts, indices, values, limits) => {
        const inputs = [viewTensor(own.indices), viewTensor(own.values)];
        const outputs = [viewTensor(indices), viewTensor(values)];
        this.#describe(opType, inputs[1], limits.timeoutMs, -1);
        return this.#submitLists(opType, limits, inputs, outputs, undefined, [counts, counts]);
      },
    });
    return Work.fromPromise(sum, { opType, ...(owner && { owner }) });
  }

  override broadcast(tensor: TensorView, options: RootOptions): Work<unknown> {
    this.#describe(OpType.BROADCAST, tensor, options.timeoutMs, options.root);
    return this.#submitInPlace(OpType.BROADCAST, tensor, options);
  }

  override reduce(tensor: TensorView, options: ReduceToRootOptions): Work<unknown> {
    this.#describe(OpType.REDUCE, tensor, options.timeoutMs, options.root);
    this.#reduceBy(options);
    return this.#submitInPlace(OpType.REDUCE, tensor, options);
  }

  override allGather(outputs: readonly TensorView[], input: TensorView, options: OpOptions): Work<unknown> {
    this.#describe(OpType.ALLGATHER, input, options.timeoutMs, -1);
    return this.#submitLists(OpType.ALLGATHER, options, [input], outputs, sourcesOf(outputs));
  }

  override allGatherIntoTensor(output: TensorView, input: TensorView, options: OpOptions): Work<unknown> {
    this.#describe(OpType.ALLGATHER_BASE, input, options.timeoutMs, -1);
    return this.#submitLists(OpType.ALLGATHER_BASE, options, [input], [output], output.source);
  }

  override allGatherIntoTensorCoalesced(
    outputs: readonly TensorView[],
    inputs: readonly TensorView[],
    options: OpOptions,
  ): Work<unknown> {
    this.#describe(OpType.ALLGATHER_COALESCED, inputs[0], options.timeoutMs, -1);
    return this.#submitLists(OpType.ALLGATHER_COALESCED, options, inputs, outputs, sourcesOf(outputs));
  }

  override gather(outputs: readonly TensorView[], input: TensorView, options: RootOptions): Work<unknown> {
    this.#describe(OpType.GATHER, input, options.timeoutMs, options.root);
    const result = this.rank === options.root ? sourcesOf(outputs) : undefined;
    return this.#submitLists(OpType.GATHER, options, [input], outputs, result);
  }

  override scatter(output: TensorView, inputs: readonly TensorView[], options: RootOptions): Work<unknown> {
    this.#describe(OpType.SCATTER, output, options.timeoutMs, options.root);
    return this.#submitLists(OpType.SCATTER, options, inputs, [output], output.source);
  }

  override reduceScatter(output: TensorView, inputs: readonly TensorView[], options: ReduceOptions): Work<unknown> {
    this.#describe(OpType.REDUCE_SCATTER, output, options.timeoutMs, -1);
    this.#reduceBy(options);
    return this.#submitLists(OpType.REDUCE_SCATTER, options, inputs, [output], output.source);
  }

  override reduceScatterTensor(output: TensorView, input: TensorView, options: ReduceOptions): Work<unknown> {
    this.#describe(OpType.REDUCE_SCATTER_BASE, output, options.timeoutMs, -1);
    this.#reduceBy(options);
    return this.#submitLists(OpType.REDUCE_SCATTER_BASE, options, [input], [output], output.source);
  }

  override reduceScatterTensorCoalesced(
    outputs: readonly TensorView[],
    inputs: readonly TensorView[],
    options: ReduceOptions,
  ): Work<unknown> {
    const opType = OpType.REDUCE_SCATTER_TENSOR_COALESCED;
    this.#describe(opType, inputs[0], options.timeoutMs, -1);
    this.#reduceBy(options);
    return this.#submitLists(opType, options, inputs, outputs, sourcesOf(outputs));
  }

  override allToAll(outputs: readonly TensorView[], inputs: readonly TensorView[], options: OpOptions): Work<unknown> {
    this.#describe(OpType.ALLTOALL, inputs[0], options.timeoutMs, -1);
    return this.#submitLists(OpType.ALLTOALL, options, inputs, outputs, sourcesOf(outputs));
  }

  override allToAllSingle(output: TensorView, input: TensorView, options: AllToAllOptions): Work<unknown> {
    const opType = OpType.ALLTOALL_BASE;
    this.#describe(opType, input, options.timeoutMs, -1);
    const splits = [options.inputSplits, options.outputSplits] as const;
    return this.#submitLists(opType, options, [input], [output], output.source, splits);
  }

  override send(tensor: TensorView, options: MessageOptions): Work<unknown> {
    this.#describe(OpType.SEND, tensor, options.timeoutMs, options.peer);
    fields.tag = options.tag;
    return this.#submitLists(OpType.SEND, options, [tensor], [], tensor.source);
  }

  override recv(tensor: TensorView, options: MessageOptions): Work<unknown> {
    const opType = options.peer < 0 ? OpType.RECV_ANY_SOURCE : OpType.RECV;
    this.#describe(opType, tensor, options.timeoutMs, options.peer);
    fields.tag = options.tag;
    return this.#submitLists(opType, options, [], [tensor], tensor.source);
  }

  override monitoredBarrier(options: MonitoredBarrierOptions): Work<unknown> {
    this.#describe(OpType.BARRIER, undefined, options.timeoutMs, -1);
    fields.flags = OpFlag.MONITORED | (options.waitAllRanks ? OpFlag.WAIT_ALL_RANKS : 0);
    return this.#submitLists(OpType.BARRIER, options, [], [], undefined);
  }

  override barrier(options: OpOptions): Work<unknown> {
    this.#describe(OpType.BARRIER, undefined, options.timeoutMs, -1);
    const group = this.#open;
    if (group === undefined) return this.#refuse(OpType.BARRIER, options);
    const send = (): number => {
      record.fill(fields, undefined, undefined);
      return group.submitOne(record, null, null);
    };
    return this.#submit(group, OpType.BARRIER, options, send, undefined, []);
  }

  #describe(opcode: OpType, tensor: TensorView | undefined, limitMs: number, peer: number): void {
    fields.opcode = opcode;
    fields.dtype = tensor === undefined ? 0 : dtypes[tensor.dtype].code;
    fields.reduceOp = 0;
    fields.premulFactor = 1;
    fields.peer = peer;
    fields.tag = 0;
    fields.flags = 0;
    fields.timeoutMs = limitMs;
  }

  #reduceBy({ op }: ReduceOptions): void {
    fields.reduceOp = op.code;
    fields.premulFactor = op.factor;
  }

  #submitLists(
    opType: OpType,
    options: OpOptions,
    inputs: readonly TensorView[],
    outputs: readonly TensorView[],
    result: unknown,
    splits?: readonly [readonly number[], readonly number[]],
  ): Work<unknown> {
    const group = this.#open;
    if (group === undefined) return this.#refuse(opType, options);
    let staged: StagedTensors;
    try {
      staged = new StagedTensors(inputs, outputs, group.staging);
    } catch (error) {
      return this.#refuse(opType, options, error);
    }
    const send = (): number => {
      record.fillLists(fields, staged.inputs, staged.outputs);
      if (splits !== undefined) record.split(...splits);
      return group.submit(record);
    };
    const { exposed } = staged;
    const tensors = [...inputs, ...outputs];
    return this.#submit(
      group,
      opType,
      options,
      send,
      result,
      tensors,
      exposed.length > 0 ? exposed : undefined,
      staged,
    );
  }

  #submitInPlace(opType: OpType, tensor: TensorView, options: OpOptions): Work<unknown> {
    const group = this.#open;
    if (group === undefined) return this.#refuse(opType, options);
    const { data, byteLength, source } = tensor;
    let staged: StagedTensor | undefined;
    let exposed: TensorView | undefined;
    let address: ArrayBufferView | number = tensor.ptr;
    if (data !== undefined && byteLength > 0) {
      if (byteLength <= STAGED_BYTES) {
        staged = new StagedTensor(data, byteLength, group.staging);
        address = staged.address;
      } else {
        const kind = memoryKindOf(data);
        if (kind === "resizable") return this.#submitLists(opType, options, [], [tensor], source);
        if (kind === "fixed") exposed = tensor;
        address = data;
      }
    }
    const send = (): number => {
      record.fill(fields, undefined, tensor);
      return group.submitOne(record, null, address);
    };
    return this.#submit(group, opType, options, send, source, tensor, exposed, staged);
  }

  /** The native group, if it takes ops. */
  get #open(): NativeGroup | undefined {
    return this.#group?.state === "OPEN" ? this.#group : undefined;
  }

  #submit(
    group: NativeGroup,
    opType: OpType,
    options: OpOptions,
    send: () => number,
    result: unknown,
    tensors: TensorView | readonly TensorView[],
    exposed?: TensorView | readonly TensorView[],
    staged?: StagedMemory,
  ): Work<unknown> {
    const { owner } = options;
    let id: number;
    try {
      id = send();
    } catch (error) {
      staged?.release();
      return this.#refuse(opType, options, error);
    }
    const isRecv = opType === OpType.RECV || opType === OpType.RECV_ANY_SOURCE;
    const seq = isRecv || opType === OpType.SEND ? ++this.#messages : ++this.#collectives;
    const work = new NativeWork(group, {
      opType,
      seq,
      id,
      result,
      tensors,
      exposed,
      staged,
      owner,
      ...(isRecv && this.#source),
    });
    group.track(work);
    if (detachGuard !== undefined) work.whenEnded(detachGuard.lend(tensors, work.title));
    return work;
  }

  /** A Work that rejects because the native side did not take the op. */
  #refuse(opType: OpType, { owner }: OpOptions, error?: unknown): Work<unknown> {
    const group = this.#group;
    // The native side counts what it has refused itself.
    if (error !== undefined && !(error instanceof NativeRefusal) && !isMessage(opType)) group?.skipTurn();
    const failed = error instanceof NativeRefusal ? error.status === Status.GROUP_FAILED : error === undefined;
    const loss = failed ? group?.takeLoss() : undefined;
    if (group !== undefined && loss !== undefined) {
      const seq = ++this.#collectives;
      const work = new NativeWork(group, { opType, seq, id: NEVER_SUBMITTED, result: undefined, tensors: [], owner });
      group.failUnsubmitted(work, loss);
      return work;
    }
    return Work.rejected(this.#failures.refusal(opType, group, error), { opType, owner });
  }

  override skipTurn(): void {
    this.#group?.skipTurn();
  }

  override abort(reason: string): void {
    this.#group?.abort(reason);
  }

  override async drained(): Promise<void> {
    await this.#group?.drained();
  }

  override async close(): Promise<void> {
    const group = this.#group;
    if (group === undefined || group.state === "CLOSED") return;
    const began = performance.now();
    if (group.inFlight > 0) {
      group.abort("the group was closed while the op was in flight");
      await Promise.race([group.drained(), Bun.sleep(ABORT_LIMIT_MS)]);
    }
    group.close(CLOSE_LIMIT_MS - Math.min(ABORT_LIMIT_MS, performance.now() - began));
  }
}

function requireBytes(key: string, value: unknown): Uint8Array {
  if (isUint8Array(value)) return value;
  throw new DistStoreError(
    `the store gave a value of type ${typeof value} for key ${key}; get() has to give a Uint8Array`,
    {
      code: "NOT_BYTES",
      keys: [key],
    },
  );
}

function sourcesOf(tensors: readonly TensorView[]): unknown[] {
  return tensors.map((tensor) => tensor.source);
}
