import { OpType, opNames } from "../collectives/op-type.ts";
import {
  DistBackendError,
  type DistError,
  DistNetworkError,
  DistTimeoutError,
  type ErrorInit,
  InvalidArgumentError,
  UnsupportedOperationError,
} from "../errors/index.ts";
import {
  type NativeFailure,
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
import { dtypes, type SparseTensor, type TensorView, viewTensor } from "../tensor/index.ts";
import { type GroupState, Work } from "../work/index.ts";
import {
  consultOnFailure,
  type FailureKind,
  type FailureReport,
  type FailureVerdict,
  isMessage,
} from "./failure-report.ts";
import { missingRanks } from "./missing-ranks.ts";
import { allReduceSparse } from "./sparse-all-reduce.ts";

const ABORT_LIMIT_MS = 900;

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
  readonly #host: NativeGroupHost;
  #group: NativeGroup | undefined;
  #collectives = 0;
  #messages = 0;
  readonly #source = { sourceRank: (groupRank: number): number => this.#context.globalRanks[groupRank] ?? groupRank };
  #verdict: Promise<FailureVerdict> | undefined;
  /** Ranks that the group has agreed to be the cause of its failure, as soon as it has. */
  #culprits: readonly number[] = [];
  /** The error that the group failed with, once one was made. */
  #firstError: DistError | undefined;

  private constructor(name: string, context: BackendContext) {
    super(context.rank, context.size);
    this.name = name;
    this.#context = context;
    const limits = { timeout: context.timeoutMs };
    this.#host = {
      storeSet: (key, value) => context.store.set(key, value, limits),
      storeGet: (key) => context.store.get(key, limits),
      log: (text) => context.logger.warn(text),
      errorNow: (failure, work) => {
        void this.#consult(failure, work);
        return this.#opError(failure, work, undefined);
      },
      errorAfterConsulting: async (failure, work) => {
        if (!isFatal(failure)) return this.#opError(failure, work, undefined);
        return this.#opError(failure, work, await this.#consult(failure, work));
      },
      creationError: (failure) => this.#creationError(failure),
    };
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
        return this.#submit(opType, limits, [...inputs, ...outputs], undefined, (group) => {
          record.fillLists(fields, inputs, outputs);
          record.split(counts, counts);
          return group.submit(record);
        });
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
    return this.#submit(opType, options, [input, output], output.source, (group) => {
      record.fillLists(fields, [input], [output]);
      record.split(options.inputSplits, options.outputSplits);
      return group.submit(record);
    });
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
    return this.#submit(OpType.BARRIER, options, [], undefined, (group) => {
      record.fill(fields, undefined, undefined);
      return group.submitOne(record, null, null);
    });
  }

  #describe(opcode: OpType, tensor: TensorView | undefined, limitMs: number, peer: number): void {
    fields.opcode = opcode;
    fields.dtype = tensor === undefined ? 0 : dtypes[tensor.dtype].code;
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
  ): Work<unknown> {
    return this.#submit(opType, options, [...inputs, ...outputs], result, (group) => {
      record.fillLists(fields, inputs, outputs);
      return group.submit(record);
    });
  }

  #submitInPlace(opType: OpType, tensor: TensorView, options: OpOptions): Work<unknown> {
    return this.#submit(opType, options, tensor, tensor.source, (group) => {
      record.fill(fields, undefined, tensor);
      // Touching `buffer` makes the memory stay where it is; the view itself goes with the call.
      if (tensor.data !== undefined) void tensor.data.buffer;
      return group.submitOne(record, null, tensor.data ?? tensor.ptr);
    });
  }

  #submit(
    opType: OpType,
    options: OpOptions,
    tensors: TensorView | readonly TensorView[],
    result: unknown,
    send: (group: NativeGroup) => number,
  ): Work<unknown> {
    const { owner } = options;
    const group = this.#group;
    if (group === undefined || group.state !== "OPEN") return this.#refuse(opType, options);
    let id: number;
    try {
      id = send(group);
    } catch (error) {
      return this.#refuse(opType, options, error);
    }
    const isRecv = opType === OpType.RECV || opType === OpType.RECV_ANY_SOURCE;
    const seq = isRecv || opType === OpType.SEND ? ++this.#messages : ++this.#collectives;
    const work = new NativeWork(group, { opType, seq, id, result, tensors, owner, ...(isRecv && this.#source) });
    group.track(work);
    return work;
  }

  /** A Work that rejects because the native side did not take the op. */
  #refuse(opType: OpType, { owner }: OpOptions, error?: unknown): Work<unknown> {
    const group = this.#group;
    const failed = error instanceof NativeRefusal ? error.status === Status.GROUP_FAILED : error === undefined;
    const loss = failed ? group?.takeLoss() : undefined;
    if (group !== undefined && loss !== undefined) {
      const seq = ++this.#collectives;
      const work = new NativeWork(group, { opType, seq, id: NEVER_SUBMITTED, result: undefined, tensors: [], owner });
      group.failUnsubmitted(work, loss);
      return work;
    }
    return Work.rejected(this.#refusal(opType, error), { opType, owner });
  }

  #refusal(opType: OpType, error: unknown): DistError {
    const op = opNames[opType];
    const init = { backend: this.name, group: this.#context.groupName, op, rank: this.rank };
    if (error instanceof NativeRefusal) {
      if (error.status === Status.INVALID) return new InvalidArgumentError(`${op}: ${error.message}`, init);
      if (error.status === Status.UNSUPPORTED) return new UnsupportedOperationError(`${op}: ${error.message}`, init);
    } else if (error !== undefined) {
      return error instanceof Error && "code" in error
        ? (error as DistError)
        : new DistBackendError(String(error), init);
    }
    if (this.state === "CLOSED" || this.#group === undefined) {
      return new DistBackendError(
        `${op}: group "${init.group}" is closed; make a new one with initProcessGroup() or newGroup()`,
        {
          ...init,
          code: "GROUP_CLOSED",
        },
      );
    }
    const cause = this.#firstError;
    // A rank that blocked has named what it saw, before it could ask the others.
    const seen = cause?.details.peers ?? [];
    const peers = this.#culprits.length > 0 ? this.#culprits : seen;
    const agreed = Bun.deepEquals(peers, seen) ? "" : `; the ranks agree on ${inWords(peers)} as the cause`;
    return new DistBackendError(
      `${op}: group "${init.group}" has failed before (${cause?.message ?? this.#group.failureText}${agreed}). ` +
        "It takes no more ops: make a new group with newGroup(), or destroyProcessGroup() and initProcessGroup() again",
      { ...init, code: "GROUP_FAILED", ...(peers.length > 0 && { peers }), ...(cause && { cause }) },
    );
  }

  #consult(failure: NativeFailure, work: NativeWork<unknown>): Promise<FailureVerdict> {
    if (this.#verdict) return this.#verdict;
    const report: FailureReport = {
      rank: this.rank,
      op: opNames[work.opType],
      seq: work.seq,
      kind: kindOf(failure),
      text: failure.text,
      peer: failure.peer,
    };
    const verdict = consultOnFailure(this.#context.store, this.size, report);
    this.#verdict = verdict;
    void verdict.then(({ culprits }) => {
      this.#culprits = culprits;
    });
    return verdict;
  }

  #opError(failure: NativeFailure, work: NativeWork<unknown>, verdict: FailureVerdict | undefined): DistError {
    const op = opNames[work.opType];
    const group = this.#context.groupName;
    const peers = verdict?.culprits ?? peersOf(failure);
    const where = `${op} #${work.seq} on group "${group}" (${this.name}, rank ${this.rank} of ${this.size})`;
    const init = { backend: this.name, group, op, seq: work.seq, rank: this.rank, peers };
    const { status, text } = this.#verdictOn(failure, verdict);
    const error = makeError(status, `${where}: ${text}${this.#blame(text, peers, verdict)}`, init);
    this.#firstError ??= error;
    return error;
  }

  /** A connection that broke because of what another rank did is reported as what that rank did. */
  #verdictOn(failure: NativeFailure, verdict: FailureVerdict | undefined): Pick<NativeFailure, "status" | "text"> {
    const cause = verdict?.cause;
    if (failure.status !== Status.NETWORK || cause === undefined || cause.rank === this.rank) return failure;
    const text = `rank ${cause.rank}: ${cause.text}`;
    if (cause.kind === "timeout") return { status: Status.OP_TIMEOUT, text };
    return cause.kind === "lost" ? failure : { status: failure.status, text };
  }

  /** The part of a message that says which ranks are behind it, unless the text has it already. */
  #blame(text: string, peers: readonly number[], verdict: FailureVerdict | undefined): string {
    if (!verdict || peers.length === 0 || verdict.cause.kind === "aborted") return "";
    const ranks = inWords(peers);
    const reports = verdict.reports.filter((report) => peers.includes(report.rank));
    const was = isMessage(verdict.cause) ? "was" : "was only";
    const behind = reports.map((report) => `; rank ${report.rank} ${was} at ${report.op} #${report.seq}`).join("");
    if (verdict.cause.kind === "timeout") {
      if (reports.length === 0) return `; ${ranks} did not arrive`;
      return behind;
    }
    if (peers.length === 1 && text.includes(ranks)) return "";
    return `; the cause is the loss of ${ranks}`;
  }

  #creationError(failure: NativeFailure): DistError {
    const { groupName, timeoutMs } = this.#context;
    const init = { backend: this.name, group: groupName, rank: this.rank, timeoutMs };
    const peers = failure.peer >= 0 ? { peers: [failure.peer] } : {};
    const message = `group "${groupName}" (${this.name}, rank ${this.rank} of ${this.size}): ${failure.text}`;
    if (failure.status === Status.OP_TIMEOUT) {
      return new DistTimeoutError(message, { ...init, ...peers, code: "CONNECT_TIMEOUT" });
    }
    return makeError(failure.status, message, { ...init, ...peers });
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
    if (group.inFlight > 0) {
      group.abort("the group was closed while the op was in flight");
      await Promise.race([group.drained(), Bun.sleep(ABORT_LIMIT_MS)]);
    }
    group.close();
  }
}

function sourcesOf(tensors: readonly TensorView[]): unknown[] {
  return tensors.map((tensor) => tensor.source);
}

function inWords(ranks: readonly number[]): string {
  return ranks.length === 1 ? `rank ${ranks[0]}` : `ranks ${ranks.join(", ")}`;
}

function peersOf({ peer, text }: NativeFailure): number[] {
  const missing = missingRanks(text);
  if (missing.length > 0) return missing;
  return peer >= 0 ? [peer] : [];
}

function isFatal(failure: NativeFailure): boolean {
  return failure.status !== Status.INVALID && failure.status !== Status.UNSUPPORTED;
}

function kindOf({ status, text }: NativeFailure): FailureKind {
  if (status === Status.OP_TIMEOUT) return "timeout";
  // Ops or sizes that do not fit are the cause of the connections that break, not a consequence.
  if (status === Status.NETWORK)
    return /it sent \d+ bytes where this rank expects|it is at another collective/.test(text) ? "other" : "lost";
  return status === Status.ABORTED || status === Status.CLOSED ? "aborted" : "other";
}

function makeError(status: number, message: string, init: ErrorInit): DistError {
  switch (status) {
    case Status.OP_TIMEOUT:
      return new DistTimeoutError(message, { ...init, code: "OP_TIMEOUT" });
    case Status.NETWORK:
      return new DistNetworkError(message, { ...init, code: "PEER_LOST" });
    case Status.ABORTED:
    case Status.CLOSED:
      return new DistBackendError(message, { ...init, code: "ABORTED" });
    case Status.INVALID:
      return new InvalidArgumentError(message, init);
    case Status.UNSUPPORTED:
      return new UnsupportedOperationError(message, init);
    default:
      return new DistBackendError(message, init);
  }
}
