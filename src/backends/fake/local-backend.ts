import { AsyncLocalStorage } from "node:async_hooks";
import { type OpCall, type OpType, opNames, opTypeOf, tensorsOf } from "../../collectives/index.ts";
import {
  absenceText,
  DistBackendError,
  type DistError,
  DistNetworkError,
  DistTimeoutError,
  InvalidArgumentError,
} from "../../errors/index.ts";
import { Backend, type BackendContext, type Capabilities } from "../../registry/index.ts";
import { detachGuard } from "../../tensor/index.ts";
import { type GroupState, Work } from "../../work/index.ts";
import { copied, isThere } from "./element-bytes.ts";
import type { ExchangePort, Failure, Member } from "./exchange/exchange-port.ts";
import { meetInThread } from "./exchange/meeting.ts";
import { workerLink } from "./exchange/worker-link.ts";
import { LocalWork, type LocalWorkHost } from "./local-work.ts";
import { type CollectiveCall, isCollective, numberedCall } from "./numbered-call.ts";

/** One rank of a group whose ranks exchange real data: all in this thread, or each in a Worker of this process. */
export class LocalBackend extends Backend implements Member {
  /** Meets the other ranks. */
  static async connect(
    context: BackendContext,
    seed: number | undefined,
    capabilities: Capabilities,
  ): Promise<LocalBackend> {
    const link = workerLink();
    const exchange = await (link === undefined ? meetInThread(context, seed) : link.meet(context, seed));
    return new LocalBackend(context, exchange, capabilities);
  }

  override readonly name = "fake";
  override readonly capabilities: Capabilities;
  readonly #exchange: ExchangePort;
  readonly #group: string;
  readonly #host: LocalWorkHost;
  readonly #inFlight = new Set<LocalWork>();
  #whenIdle: (() => void)[] = [];
  #rounds = 0;
  #collectives = 0;
  #refused = 0;
  /** Number of the last collective, counting refused ones. */
  #number = 0;
  #messages = 0;
  #closed = false;
  #firstError: DistError | undefined;

  constructor(
    { rank, groupName, clock }: Pick<BackendContext, "rank" | "groupName" | "clock">,
    exchange: ExchangePort,
    capabilities: Capabilities,
  ) {
    super(rank, exchange.size);
    this.capabilities = capabilities;
    this.#exchange = exchange;
    this.#group = groupName;
    this.#host = {
      ...(exchange.pump && { pump: exchange.pump }),
      clock,
      asRank: AsyncLocalStorage.snapshot(),
      onTimeout: (work) => exchange.timeOut(rank, work),
      onEnd: (work) => this.#onEnd(work),
      abort: (reason) => this.abort(reason),
    };
    exchange.addMember(this);
  }

  override get state(): GroupState {
    if (this.#closed) return "CLOSED";
    return this.#exchange.failure === undefined ? "OPEN" : "FAILED";
  }

  override get inFlight(): number {
    return this.#inFlight.size;
  }

  override submit(calls: readonly OpCall[]): readonly Work<void>[] {
    const lost = calls.find((call) => !tensorsOf(call).every(isThere));
    // One by one: a call that shows that the ranks are out of step fails the group before the next call.
    return calls.map((call) => {
      if (call.op === "refused") return this.#takeTurn(call);
      if (this.state !== "OPEN") return this.#refuse(call);
      if (lost !== undefined) return this.#refuseLost(call, lost);
      return isCollective(call) ? this.#enter(call) : this.#post(call);
    });
  }

  /** With its own error messages: {@link submit} refuses calls on a closed or failed group. */
  override refuse(calls: readonly OpCall[]): readonly Work<void>[] {
    return this.submit(calls);
  }

  /** A collective that this rank refused takes a number, as on ranks that did not refuse it. */
  #takeTurn(call: OpCall): Work<void> {
    this.#refused++;
    this.#exchange.refuse(this.rank);
    return Work.completed(undefined, { opType: opTypeOf(call) });
  }

  #enter(call: CollectiveCall): Work<void> {
    if (!call.continuation) this.#number = ++this.#collectives + this.#refused;
    const work = this.#start(call, this.#collectives);
    this.#exchange.enter(this.rank, ++this.#rounds, numberedCall(call, this.#number), work);
    return work;
  }

  #post(call: OpCall): Work<void> {
    const work = this.#start(call, ++this.#messages);
    const { peer, tag } = call;
    const message = { rank: this.rank, peer, tag, op: work } as const;
    for (const tensor of call.inputs) this.#exchange.post({ ...message, kind: "send", tensor: copied(tensor) });
    for (const tensor of call.outputs) this.#exchange.post({ ...message, kind: "recv", tensor });
    return work;
  }

  #start(call: OpCall, seq: number): LocalWork {
    const work = new LocalWork(call, seq, this.#host);
    this.#inFlight.add(work);
    if (detachGuard !== undefined) work.whenEnded(detachGuard.guard(tensorsOf(call), work.title));
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
    this.announceFailure(failure.text);
  }

  #errorOf({ kind, rank, peers, text }: Failure, work: Pick<LocalWork, "opType" | "seq" | "timeoutMs">): DistError {
    const op = opNames[work.opType];
    const group = this.#group;
    const where = `${op} #${work.seq} on group "${group}" (fake, rank ${this.rank} of ${this.size})`;
    const own = kind === "timeout" && peers.length > 0 ? this.#ownText(text, peers) : text;
    const reason = rank === this.rank || kind === "mismatch" || kind === "left" ? own : `rank ${rank}: ${own}`;
    const message = `${where}: ${reason}`;
    const init = { backend: "fake", group, op, seq: work.seq, rank: this.rank, peers };
    if (kind === "timeout") {
      return new DistTimeoutError(message, { ...init, code: "OP_TIMEOUT", timeoutMs: work.timeoutMs });
    }
    if (kind === "mismatch") return new DistBackendError(message, { ...init, code: "DESYNC" });
    if (kind === "aborted" && rank === this.rank) return new DistBackendError(message, { ...init, code: "ABORTED" });
    return new DistNetworkError(message, { ...init, code: "PEER_LOST" });
  }

  /** What the ranks are told of a time-out, as this one says it. */
  #ownText(text: string, peers: readonly number[]): string {
    const own = text.replace(absenceText(-1, peers), absenceText(this.rank, peers));
    return own.replaceAll(new RegExp(`\\brank ${this.rank}\\b`, "g"), "this rank");
  }

  #refuse(call: OpCall): Work<void> {
    const opType = opTypeOf(call);
    return Work.rejected(this.#refusalOf(opType, call.timeoutMs), { opType });
  }

  /** The error of a call on a group that takes no ops. */
  #refusalOf(opType: OpType, timeoutMs: number): DistError {
    const { failure } = this.#exchange;
    const isOwn = failure?.kind === "aborted" && failure.rank === this.rank;
    if (!this.#closed && failure !== undefined && !isOwn && this.#firstError === undefined) {
      // The others failed before this rank made its call.
      this.#firstError = this.#errorOf(failure, { opType, seq: ++this.#collectives, timeoutMs });
      return this.#firstError;
    }
    const op = opNames[opType];
    const group = this.#group;
    const init = { backend: "fake", group, op, rank: this.rank };
    if (this.state === "CLOSED") {
      return new DistBackendError(
        `${op}: group "${group}" is closed; make a new one with initProcessGroup() or newGroup()`,
        { ...init, code: "GROUP_CLOSED" },
      );
    }
    return new DistBackendError(
      `${op}: group "${group}" has failed before (${this.#firstError?.message ?? failure?.text}). ` +
        "It takes no more ops: make a new group with newGroup(), or destroyProcessGroup() and initProcessGroup() again",
      {
        ...init,
        code: "GROUP_FAILED",
        ...(failure && failure.peers.length > 0 && { peers: failure.peers }),
        ...(this.#firstError && { cause: this.#firstError }),
      },
    );
  }

  /** A call of this batch has lost its memory since it was made: none of them is started. */
  #refuseLost(call: OpCall, lost: OpCall): Work<void> {
    if (isCollective(call)) {
      this.#refused++;
      this.#exchange.refuse(this.rank);
    }
    const op = opNames[opTypeOf(lost)];
    const error = new InvalidArgumentError(`${op}: a buffer was detached or resized before the op could start`, {
      backend: "fake",
      group: this.#group,
      op,
      rank: this.rank,
      code: "DETACHED_BUFFER",
    });
    return Work.rejected(error, { opType: opTypeOf(call) });
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
