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
  type OpFields,
  OpRecord,
  type Shim,
  Status,
} from "../native/index.ts";
import {
  Backend,
  type BackendContext,
  type OpOptions,
  type ReduceOptions,
  type RootOptions,
} from "../registry/index.ts";
import { dtypes, type TensorView } from "../tensor/index.ts";
import { type GroupState, Work } from "../work/index.ts";
import { consultOnFailure, type FailureReport, type FailureVerdict } from "./failure-report.ts";

const ABORT_LIMIT_MS = 900;

/** Every submission fills in this record again; there is one per thread, and nothing yields in between. */
const record = new OpRecord();

/** Mutable so that no object is made per op. */
const fields = { opcode: 0, dtype: 0, reduceOp: 0, peer: -1, tag: 0, timeoutMs: 0, premulFactor: 1 } satisfies OpFields;

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
  #verdict: Promise<FailureVerdict> | undefined;
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
      log: (text) => context.log(`${name}: ${text}`),
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
    fields.reduceOp = options.op.code;
    fields.premulFactor = options.op.factor;
    return this.#submitInPlace(OpType.ALLREDUCE, tensor, options);
  }

  override allReduceCoalesced(tensors: readonly TensorView[], options: ReduceOptions): Work<unknown> {
    this.#describe(OpType.ALLREDUCE_COALESCED, tensors[0], options.timeoutMs, -1);
    fields.reduceOp = options.op.code;
    fields.premulFactor = options.op.factor;
    const sources = tensors.map((tensor) => tensor.source);
    return this.#submit(OpType.ALLREDUCE_COALESCED, options, tensors, sources, (group) => {
      record.fillLists(fields, [], tensors);
      return group.submit(record);
    });
  }

  override broadcast(tensor: TensorView, options: RootOptions): Work<unknown> {
    this.#describe(OpType.BROADCAST, tensor, options.timeoutMs, options.root);
    return this.#submitInPlace(OpType.BROADCAST, tensor, options);
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
    fields.timeoutMs = limitMs;
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
    const seq = ++this.#collectives;
    const work = new NativeWork(group, { opType, seq, id, result, tensors, ...(owner && { owner }) });
    group.track(work);
    return work;
  }

  /** A Work that rejects because the native side did not take the op. */
  #refuse(opType: OpType, { owner }: OpOptions, error?: unknown): Work<unknown> {
    return Work.rejected(this.#refusal(opType, error), { opType, ...(owner && { owner }) });
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
    return new DistBackendError(
      `${op}: group "${init.group}" has failed before (${cause?.message ?? this.#group.failureText}). ` +
        "It takes no more ops: make a new group with newGroup(), or destroyProcessGroup() and initProcessGroup() again",
      { ...init, code: "GROUP_FAILED", ...(cause && { cause }) },
    );
  }

  #consult(failure: NativeFailure, work: NativeWork<unknown>): Promise<FailureVerdict> {
    if (this.#verdict) return this.#verdict;
    const report: FailureReport = {
      rank: this.rank,
      op: opNames[work.opType],
      seq: work.seq,
      text: failure.text,
      peer: failure.peer,
    };
    this.#verdict = consultOnFailure(this.#context.store, this.size, report);
    return this.#verdict;
  }

  #opError(failure: NativeFailure, work: NativeWork<unknown>, verdict: FailureVerdict | undefined): DistError {
    const op = opNames[work.opType];
    const group = this.#context.groupName;
    const peers = verdict?.culprits ?? (failure.peer >= 0 ? [failure.peer] : []);
    const where = `${op} #${work.seq} on group "${group}" (${this.name}, rank ${this.rank} of ${this.size})`;
    const text = failure.text + this.#blame(failure, peers, verdict);
    const error = makeError(failure, `${where}: ${text}`, {
      backend: this.name,
      group,
      op,
      seq: work.seq,
      rank: this.rank,
      peers,
    });
    this.#firstError ??= error;
    return error;
  }

  /** The part of a message that says which ranks are behind it. */
  #blame(failure: NativeFailure, peers: readonly number[], verdict: FailureVerdict | undefined): string {
    if (!verdict || peers.length === 0) return "";
    const ranks = peers.length === 1 ? `rank ${peers[0]}` : `ranks ${peers.join(", ")}`;
    const silent = peers.filter((rank) => !verdict.reports.some((report) => report.rank === rank));
    if (failure.status === Status.OP_TIMEOUT) {
      const late = verdict.reports.filter((report) => report.seq < Math.max(...verdict.reports.map((r) => r.seq)));
      const behind = late.map((report) => `; rank ${report.rank} is only at ${report.op} #${report.seq}`).join("");
      return silent.length > 0 ? `: ${ranks} did not arrive and does not answer${behind}` : behind;
    }
    if (peers.includes(failure.peer)) return "";
    return ` (first cause: ${ranks}; ${verdict.first.text})`;
  }

  #creationError(failure: NativeFailure): DistError {
    const { groupName, timeoutMs } = this.#context;
    const init = { backend: this.name, group: groupName, rank: this.rank, timeoutMs };
    const peers = failure.peer >= 0 ? { peers: [failure.peer] } : {};
    const message = `group "${groupName}" (${this.name}, rank ${this.rank} of ${this.size}): ${failure.text}`;
    if (failure.status === Status.OP_TIMEOUT) {
      return new DistTimeoutError(message, { ...init, ...peers, code: "CONNECT_TIMEOUT" });
    }
    return makeError(failure, message, { ...init, ...peers });
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

function isFatal(failure: NativeFailure): boolean {
  return failure.status !== Status.INVALID && failure.status !== Status.UNSUPPORTED;
}

function makeError(failure: NativeFailure, message: string, init: ErrorInit): DistError {
  switch (failure.status) {
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
