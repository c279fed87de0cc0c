import { type OpCall, opTypeOf } from "../../collectives/op-call.ts";
import { isOneTensor, type OpName, opNames, opTable, type Side } from "../../collectives/op-table.ts";
import {
  DistBackendError,
  DistError,
  DistTimeoutError,
  type ErrorDetails,
  InvalidArgumentError,
  messageOf,
  UnsupportedOperationError,
  warn,
} from "../../errors/index.ts";
import type { TensorView } from "../../tensor/index.ts";
import { type GroupState, Work } from "../../work/index.ts";
import { Backend } from "../contracts/backend.ts";
import { type Clock, systemClock } from "../services/clock.ts";
import { groupNameOf } from "./group-names.ts";
import type { MethodCall, MethodResult, ReducingCall } from "./method-call.ts";
import { MethodWork } from "./method-work.ts";

type Tensors = readonly TensorView[];
type AnyMethod = (...args: unknown[]) => MethodResult;

/**
 * A backend with a method for each op, for authors who prefer that to `submit`. Methods may be `async`, may throw, and
 * return nothing, a promise or a Work; an op without a method is unsupported. They receive the tensors that they write
 * to, then those that they only read, then the call.
 *
 * This class does what every backend must: it numbers ops, enforces their time-outs, and when an op fails, fails the
 * group, calls {@link onFailure} and no longer calls the methods. Only an `InvalidArgumentError` or an
 * `UnsupportedOperationError` of a method fails its op alone. A batch runs in order, and is not one op.
 *
 * ```ts
 * class Loopback extends MethodBackend {
 *   override readonly name = "loopback";
 *   override readonly capabilities = { ops: { barrier: [] }, reduceOps: {} };
 *   override async barrier(call: MethodCall) {
 *     await allArrived(call.turn, call.signal);
 *   }
 * }
 * ```
 */
export abstract class MethodBackend extends Backend {
  readonly #inFlight = new Set<MethodWork>();
  #whenIdle: (() => void)[] = [];
  #state: GroupState = "OPEN";
  #failure: DistError | undefined;
  #closing: Promise<void> | undefined;
  #turns = 0;
  #collectives = 0;
  #messages = 0;
  readonly #clock: Clock;

  /** @param clock The clock for the time-outs of ops: the `clock` of the plugin's context. */
  constructor(rank: number, size: number, clock: Clock = systemClock) {
    super(rank, size);
    this.#clock = clock;
  }

  override get state(): GroupState {
    return this.#state;
  }

  override get inFlight(): number {
    return this.#inFlight.size;
  }

  override submit(calls: readonly OpCall[]): readonly Work<void>[] {
    const refusal = this.#refusalOf(calls);
    if (refusal !== undefined) return calls.map((call) => this.#refuse(call, refusal));
    return calls.map((call) => this.#start(call));
  }

  /** Rejects the calls with errors of its own: {@link submit} refuses calls that come too late. */
  override refuse(calls: readonly OpCall[]): readonly Work<void>[] {
    return this.submit(calls);
  }

  /** Called once, when the group has failed, to stop ops and notify other ranks. May be async; its errors only warn. */
  protected onFailure(error: DistError): void | PromiseLike<void> {
    void error;
  }

  /** An error of it is only a warning: it may have to reach ranks that have exited. */
  #callOnFailure(error: DistError): void {
    const failed = (reason: unknown) => warn(`backend "${this.name}": onFailure() failed: ${messageOf(reason)}`);
    try {
      const returned = this.onFailure(error);
      if (returned !== undefined) Promise.resolve(returned).catch(failed);
    } catch (reason) {
      failed(reason);
    }
  }

  /** Called once, when the group is closed, to release everything. */
  protected onClose(): void | PromiseLike<void> {}

  /** Fails the group and all ops in flight. Returns the first error that the group failed with. */
  protected fail(error: DistError): DistError {
    if (this.#state !== "OPEN") return this.#failure ?? error;
    this.#state = "FAILED";
    this.#failure = error;
    for (const work of [...this.#inFlight]) work.settle(error);
    this.#callOnFailure(error);
    this.announceFailure(error.message);
    return error;
  }

  override abort(reason: string): void {
    this.fail(new DistBackendError(reason, { backend: this.name, rank: this.rank, code: "ABORTED" }));
  }

  override drained(): Promise<void> {
    if (this.#inFlight.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#whenIdle.push(resolve));
  }

  override close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#inFlight.size > 0) this.abort("the group was closed while the op was in flight");
    this.#state = "CLOSED";
    await this.onClose();
  }

  /** Reduces the tensor over all ranks, in place on all. */
  allReduce?(tensor: TensorView, call: ReducingCall): MethodResult;
  /** Reduces each tensor of the list (same dtype) over all ranks, in place, as one op. */
  allReduceCoalesced?(tensors: Tensors, call: ReducingCall): MethodResult;
  /** Joins the inputs at each index of the list in rank order; `inputSplits` has the number of blocks of each rank. */
  allReduceSparse?(outputs: Tensors, inputs: Tensors, call: MethodCall): MethodResult;
  /** Copies the root's tensor to all ranks. */
  broadcast?(tensor: TensorView, call: MethodCall): MethodResult;
  /** Reduces the tensor over all ranks into the root's; what the others' hold afterwards is unspecified. */
  reduce?(tensor: TensorView, call: ReducingCall): MethodResult;
  /** Copies each rank's input to `outputs[rank]` on all ranks. */
  allGather?(outputs: Tensors, input: TensorView, call: MethodCall): MethodResult;
  /** Copies each rank's input to part `rank` of the output on all ranks. */
  allGatherIntoTensor?(output: TensorView, input: TensorView, call: MethodCall): MethodResult;
  /** The same for each pair of the lists (same dtype), as one op. */
  allGatherIntoTensorCoalesced?(outputs: Tensors, inputs: Tensors, call: MethodCall): MethodResult;
  /** Copies each rank's input to `outputs[rank]` on the root; elsewhere `outputs` is empty. */
  gather?(outputs: Tensors, input: TensorView, call: MethodCall): MethodResult;
  /** Copies each rank's input to part `rank` of the output on the root; elsewhere `output` is undefined. */
  gatherSingle?(output: TensorView | undefined, input: TensorView, call: MethodCall): MethodResult;
  /** Copies the root's `inputs[rank]` to each rank's output; elsewhere `inputs` is empty. */
  scatter?(output: TensorView, inputs: Tensors, call: MethodCall): MethodResult;
  /** Reduces each `inputs[rank]` over all ranks into that rank's output. */
  reduceScatter?(output: TensorView, inputs: Tensors, call: ReducingCall): MethodResult;
  /** Reduces part `rank` of the inputs of all ranks into that rank's output. */
  reduceScatterTensor?(output: TensorView, input: TensorView, call: ReducingCall): MethodResult;
  /** The same for each pair of the lists (same dtype), as one op. */
  reduceScatterTensorCoalesced?(outputs: Tensors, inputs: Tensors, call: ReducingCall): MethodResult;
  /** Copies `inputs[rank]` to that rank's `outputs[own rank]`. */
  allToAll?(outputs: Tensors, inputs: Tensors, call: MethodCall): MethodResult;
  /** The same with parts of one input and one output, by `inputSplits` and `outputSplits`. */
  allToAllSingle?(output: TensorView, input: TensorView, call: MethodCall): MethodResult;
  /** Sends the tensor to rank `peer`, which receives it with the same tag. */
  send?(tensor: TensorView, call: MethodCall): MethodResult;
  /**
   * Receives into the tensor, from rank `peer` or, if that is -1, from any. A Work, or a promise of a number, reports
   * which rank of the group it was.
   */
  recv?(tensor: TensorView, call: MethodCall): MethodResult;
  /** Completes when all ranks have called it. */
  barrier?(call: MethodCall): MethodResult;
  /**
   * A barrier whose time-out names the ranks that did not arrive. The method enforces `call.timeoutMs` itself, since
   * only it knows which ranks these are.
   */
  monitoredBarrier?(call: MethodCall): MethodResult;

  /** Why these calls cannot be started. */
  #refusalOf(calls: readonly OpCall[]): DistError | undefined {
    const [first] = calls;
    if (first === undefined) return undefined;
    if (this.#state !== "OPEN") return this.#stateError(opNames[opTypeOf(first)]);
    const missing = calls.find(({ op }) => opTable[op].kind !== "turn" && methodOf(this, op) === undefined);
    if (missing === undefined) return undefined;
    const { op } = missing;
    return new UnsupportedOperationError(`backend "${this.name}" does not implement ${op}`, { backend: this.name, op });
  }

  #stateError(op: string): DistError {
    const details = { backend: this.name, op, rank: this.rank };
    if (this.#state === "CLOSED") {
      return new DistBackendError(`${op}: the group is closed; make a new one with newGroup()`, {
        ...details,
        code: "GROUP_CLOSED",
      });
    }
    const text = `${op}: the group has failed before (${this.#failure?.message}). It takes no more ops: make a new group with newGroup()`;
    return new DistBackendError(text, { ...details, code: "GROUP_FAILED", cause: this.#failure });
  }

  #refuse(call: OpCall, refusal: DistError): Work<void> {
    if (opTable[call.op].kind !== "message") this.#turns++;
    return Work.rejected(refusal, { opType: opTypeOf(call) });
  }

  #start(call: OpCall): Work<void> {
    const opType = opTypeOf(call);
    const { kind, inputs, outputs } = opTable[call.op];
    if (kind === "turn") {
      this.#turns++;
      return Work.completed(undefined, { opType });
    }
    // An op of this batch that ended at once may have failed the group.
    if (this.#state !== "OPEN") return this.#refuse(call, this.#stateError(opNames[opType]));
    const turn = kind === "collective" ? ++this.#turns : -1;
    const limitMs = call.op === "monitoredBarrier" ? Number.POSITIVE_INFINITY : call.timeoutMs;
    const work = new MethodWork({ opType, seq: this.#numberOf(call) }, limitMs, this.#clock, {
      onTimeout: (late) => this.fail(this.#timeoutError(late, limitMs)),
      onEnd: (ended) => this.#onEnd(ended),
      errorOf: (reason, failed) => this.#errorOf(reason, failed),
    });
    this.#inFlight.add(work);
    const methodCall: MethodCall = {
      ...call,
      turn,
      get signal() {
        return work.signal;
      },
    };
    const args = [...argumentOf(outputs, call.outputs), ...argumentOf(inputs, call.inputs), methodCall];
    try {
      work.follow(methodOf(this, call.op)?.apply(this, args));
    } catch (error) {
      work.fail(error);
    }
    return work;
  }

  #numberOf({ op, continuation }: OpCall): number {
    if (opTable[op].kind === "message") return ++this.#messages;
    return continuation ? this.#collectives : ++this.#collectives;
  }

  /** The error that an op ends with. Anything but a refusal of its arguments fails the group. */
  #errorOf(reason: unknown, work: MethodWork): DistError {
    if (reason instanceof InvalidArgumentError || reason instanceof UnsupportedOperationError) return reason;
    if (reason instanceof DistError) return this.fail(reason);
    const { text, details } = this.#whereIs(work);
    return this.fail(new DistBackendError(`${text}: ${messageOf(reason)}`, { ...details, cause: reason }));
  }

  #timeoutError(work: MethodWork, timeoutMs: number): DistTimeoutError {
    const { text, details } = this.#whereIs(work);
    return new DistTimeoutError(`${text}: timed out after ${timeoutMs} ms`, {
      ...details,
      code: "OP_TIMEOUT",
      timeoutMs,
    });
  }

  #whereIs({ opType, seq }: MethodWork): { readonly text: string; readonly details: ErrorDetails } {
    const { name, rank, size } = this;
    const op = opNames[opType];
    const group = groupNameOf(this);
    const place = group === undefined ? "" : ` on group "${group}"`;
    const details = { backend: name, op, seq, rank, ...(group !== undefined && { group }) };
    return { text: `${op} #${seq}${place} (${name}, rank ${rank} of ${size})`, details };
  }

  #onEnd(work: MethodWork): void {
    this.#inFlight.delete(work);
    if (this.#inFlight.size > 0) return;
    for (const resolve of this.#whenIdle.splice(0)) resolve();
  }
}

function methodOf(backend: MethodBackend, op: OpName): AnyMethod | undefined {
  const method: unknown = op === "refused" ? undefined : backend[op];
  return typeof method === "function" ? (method as AnyMethod) : undefined;
}

/** The tensors of one side as a method receives them: nothing, one, or a list. */
function argumentOf(side: Side, tensors: OpCall["inputs"]): unknown[] {
  if (side === "none") return [];
  return isOneTensor(side) ? [tensors[0]] : [tensors];
}
