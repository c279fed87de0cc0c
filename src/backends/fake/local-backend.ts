import { OpType, opNames } from "../../collectives/op-type.ts";
import { DistBackendError, type DistError, DistNetworkError, DistTimeoutError } from "../../errors/index.ts";
import type { BackendContext, MessageOptions, OpOptions } from "../../registry/index.ts";
import { detachGuard, isDetachable, STAGED_BYTES, stagedBytes, type TensorView } from "../../tensor/index.ts";
import { type GroupState, Work } from "../../work/index.ts";
import type { CollectiveCall } from "./collective-call.ts";
import { copied } from "./element-bytes.ts";
import type { ExchangePort, Failure, Member } from "./exchange-port.ts";
import { FakeBackend } from "./fake-backend.ts";
import { LocalWork } from "./local-work.ts";
import { meetInThread } from "./meeting.ts";
import { workerLink } from "./worker-link.ts";

type Surroundings = Pick<BackendContext, "groupName" | "globalRanks">;

/** One rank of a group whose ranks exchange real data: all in this thread, or each in a Worker of this process. */
export class LocalBackend extends FakeBackend implements Member {
  /** Meets the other ranks. */
  static async connect(context: BackendContext, seed: number | undefined): Promise<LocalBackend> {
    const link = workerLink();
    const exchange = await (link === undefined ? meetInThread(context, seed) : link.meet(context, seed));
    return new LocalBackend(context.rank, exchange, context);
  }

  readonly #exchange: ExchangePort;
  readonly #surroundings: Surroundings;
  readonly #inFlight = new Set<LocalWork>();
  #whenIdle: (() => void)[] = [];
  #collectives = 0;
  #refused = 0;
  #messages = 0;
  #closed = false;
  #firstError: DistError | undefined;

  constructor(rank: number, exchange: ExchangePort, surroundings: Surroundings) {
    super(rank, exchange.size);
    this.#exchange = exchange;
    this.#surroundings = surroundings;
    exchange.addMember(this);
  }

  override get state(): GroupState {
    if (this.#closed) return "CLOSED";
    return this.#exchange.failure === undefined ? "OPEN" : "FAILED";
  }

  override get inFlight(): number {
    return this.#inFlight.size;
  }

  protected override collective(call: CollectiveCall, result: unknown, options: OpOptions): Work<unknown> {
    if (this.state !== "OPEN") return this.#refuse(call.opType, options);
    const tensors = call.inputs === call.outputs ? call.outputs : [...call.inputs, ...call.outputs];
    const work = this.#start(call.opType, ++this.#collectives, result, options, tensors);
    // What is detached later has been given already.
    const number = work.seq + this.#refused;
    this.#exchange.enter(this.rank, work.seq, { ...call, number, inputs: call.inputs.map(copied) }, work);
    return work;
  }

  override skipTurn(): void {
    this.#refused++;
  }

  protected override message(
    opType: OpType.SEND | OpType.RECV | OpType.RECV_ANY_SOURCE,
    tensor: TensorView,
    options: MessageOptions,
  ): Work<unknown> {
    if (this.state !== "OPEN") return this.#refuse(opType, options);
    const work = this.#start(opType, ++this.#messages, tensor.source, options, [tensor]);
    const { rank } = this;
    const { peer, tag } = options;
    const message = { rank, peer, tag, op: work } as const;
    if (opType === OpType.SEND) this.#exchange.post({ ...message, kind: "send", tensor: copied(tensor) });
    else this.#exchange.post({ ...message, kind: "recv", tensor });
    return work;
  }

  #start(
    opType: OpType,
    seq: number,
    result: unknown,
    { timeoutMs, owner }: OpOptions,
    tensors: readonly TensorView[],
  ): LocalWork {
    const isRecv = opType === OpType.RECV || opType === OpType.RECV_ANY_SOURCE;
    const work = new LocalWork({
      opType,
      seq,
      result,
      timeoutMs,
      exposed: stagedBytes(tensors) > STAGED_BYTES ? tensors.filter(isDetachable) : [],
      ...(owner && { owner }),
      ...(isRecv && { sourceRank: (rank: number) => this.#surroundings.globalRanks[rank] ?? rank }),
      ...(this.#exchange.pump && { pump: this.#exchange.pump }),
      onTimeout: (late) => this.#exchange.timeOut(this.rank, late),
      onEnd: (ended) => this.#onEnd(ended),
      onAbort: (reason) => this.abort(reason),
    });
    this.#inFlight.add(work);
    if (detachGuard !== undefined) work.whenEnded(detachGuard.lend(tensors, work.title));
    return work;
  }

  #onEnd(work: LocalWork): void {
    this.#inFlight.delete(work);
    if (this.#inFlight.size > 0) return;
    for (const resolve of this.#whenIdle.splice(0)) resolve();
  }

  onFailure(failure: Failure): void {
    for (const work of [...this.#inFlight]) {
      const error = this.#errorOf(failure, work);
      this.#firstError ??= error;
      work.fail(error);
    }
  }

  #errorOf({ kind, rank, peers, text }: Failure, work: Pick<LocalWork, "opType" | "seq" | "timeoutMs">): DistError {
    const op = opNames[work.opType];
    const group = this.#surroundings.groupName;
    const where = `${op} #${work.seq} on group "${group}" (fake, rank ${this.rank} of ${this.size})`;
    const told = rank === this.rank || kind === "mismatch" || kind === "left" ? text : `rank ${rank}: ${text}`;
    const message = `${where}: ${told}`;
    const init = { backend: "fake", group, op, seq: work.seq, rank: this.rank, peers };
    if (kind === "timeout") {
      return new DistTimeoutError(message, { ...init, code: "OP_TIMEOUT", timeoutMs: work.timeoutMs });
    }
    if (kind === "mismatch") return new DistBackendError(message, { ...init, code: "DESYNC" });
    if (kind === "aborted" && rank === this.rank) return new DistBackendError(message, { ...init, code: "ABORTED" });
    return new DistNetworkError(message, { ...init, code: "PEER_LOST" });
  }

  #refuse(opType: OpType, { owner, timeoutMs }: OpOptions): Work<unknown> {
    const { failure } = this.#exchange;
    if (!this.#closed && failure?.kind === "mismatch" && this.#firstError === undefined) {
      // The others have failed before this rank made its call.
      this.#firstError = this.#errorOf(failure, { opType, seq: ++this.#collectives, timeoutMs });
      return Work.rejected(this.#firstError, owner === undefined ? { opType } : { opType, owner });
    }
    const op = opNames[opType];
    const group = this.#surroundings.groupName;
    const init = { backend: "fake", group, op, rank: this.rank };
    const error =
      this.state === "CLOSED"
        ? new DistBackendError(
            `${op}: group "${group}" is closed; make a new one with initProcessGroup() or newGroup()`,
            { ...init, code: "GROUP_CLOSED" },
          )
        : new DistBackendError(
            `${op}: group "${group}" has failed before (${this.#firstError?.message ?? this.#exchange.failure?.text}). ` +
              "It takes no more ops: make a new group with newGroup(), or destroyProcessGroup() and initProcessGroup() again",
            { ...init, code: "GROUP_FAILED", ...(this.#firstError && { cause: this.#firstError }) },
          );
    return Work.rejected(error, owner === undefined ? { opType } : { opType, owner });
  }

  override abort(reason: string): void {
    if (!this.#closed) this.#exchange.abort(this.rank, reason);
  }

  override drained(): Promise<void> {
    if (this.#inFlight.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#whenIdle.push(resolve));
  }

  override close(): Promise<void> {
    if (this.#closed) return Promise.resolve();
    if (this.#inFlight.size > 0) this.abort("the group was closed while the op was in flight");
    this.#closed = true;
    this.#exchange.leave(this.rank);
    return Promise.resolve();
  }
}
