import { type OpCall, opTypeOf } from "../../collectives/op-call.ts";
import { opTable } from "../../collectives/op-table.ts";
import { DistBackendError, type DistError, UnsupportedOperationError } from "../../errors/index.ts";
import { type Backend, type Clock, scheduleOn } from "../../registry/index.ts";
import { DeferredWork, type GroupState, Work } from "../../work/index.ts";
import { type Pair, PairWork } from "./pair-work.ts";
import { creationFailure, overdue, whileConnecting } from "./waiting-errors.ts";

/** How a {@link Communicator} is made, and who hears of its end. */
export interface CommunicatorInit {
  /** For messages: `cuda:0`, or the ranks of a pair. */
  readonly title: string;
  readonly backend: string;
  readonly group: string;
  readonly rank: number;
  readonly clock: Clock;
  /** How long it may take to be made, in milliseconds. */
  readonly limitMs: number;
  /** Makes it. The signal's reason is why it is no longer wanted. */
  connect(signal: AbortSignal): Promise<Backend>;
  /** Set if it is for the messages of two ranks, in which it has other ranks than in the group. */
  readonly pair: Pair | undefined;
  /** Called once, when it has failed and the ops that waited for it have ended. */
  onFailed(reason: string): void;
}

/** Calls that wait, submitted together. */
interface Waiting {
  readonly calls: readonly OpCall[];
  readonly works: readonly DeferredWork[];
  readonly since: number;
  timer: Disposable | undefined;
}

/** How long closing waits for a creation that it has cancelled. */
const CANCEL_LIMIT_MS = 900;

/**
 * A communicator that is being made, and the calls that wait for it; then the backend that it has become, which gets
 * later calls without a detour.
 */
export class Communicator {
  readonly #init: CommunicatorInit;
  readonly #deadline: number;
  readonly #cancel = new AbortController();
  /** Resolves when it has been made, or will never be. */
  readonly #made: Promise<void>;
  #backend: Backend | undefined;
  #failure: DistError | undefined;
  #isOver = false;
  #isTimed = false;
  #collectives = 0;
  #messages = 0;
  #waiting: Waiting[] = [];

  constructor(init: CommunicatorInit) {
    this.#init = init;
    this.#deadline = performance.now() + init.limitMs;
    this.#made = this.#make();
  }

  async #make(): Promise<void> {
    let backend: Backend;
    try {
      backend = await this.#init.connect(this.#cancel.signal);
    } catch (error) {
      const { title, group, backend: name, rank } = this.#init;
      if (!this.#isOver) this.#fail(creationFailure(error, { title, group, backend: name, rank }));
      return;
    }
    if (this.#isOver) {
      await backend.close().catch(() => {});
      return;
    }
    if (this.#isTimed) backend.enableTiming();
    // What is submitted while this goes on waits at the end of the list.
    for (let next = this.#waiting[0]; next !== undefined && !this.#isOver; next = this.#waiting[0]) {
      this.#submitWaiting(backend, next);
      this.#waiting.shift();
    }
    this.#backend = backend;
    backend.whenFailed((reason) => this.#init.onFailed(reason));
  }

  #submitWaiting(backend: Backend, { calls, works, since, timer }: Waiting): void {
    timer?.[Symbol.dispose]();
    const waitedMs = performance.now() - since;
    const left = calls.map((call) => ({ ...this.#native(call), timeoutMs: Math.max(1, call.timeoutMs - waitedMs) }));
    follow(works, backend.submit(left));
  }

  /** The backend, once it has been made. */
  get backend(): Backend | undefined {
    return this.#backend;
  }

  get state(): GroupState {
    return this.#failure === undefined ? (this.#backend?.state ?? "OPEN") : "FAILED";
  }

  get inFlight(): number {
    const waiting = this.#waiting.reduce((sum, { calls }) => sum + calls.length, 0);
    return waiting + (this.#backend?.inFlight ?? 0);
  }

  submit(calls: readonly OpCall[]): readonly Work<void>[] {
    const backend = this.#backend;
    if (backend !== undefined)
      return this.#init.pair === undefined ? backend.submit(calls) : this.#inPair(backend, calls);
    const failure = this.#failure;
    if (failure !== undefined) return calls.map((call) => Work.rejected(failure, { opType: opTypeOf(call) }));
    const works = calls.map((call) => this.#defer(call));
    const waiting: Waiting = { calls: [...calls], works, since: performance.now(), timer: undefined };
    this.#waiting.push(waiting);
    const limitMs = Math.min(...calls.map(({ timeoutMs }) => timeoutMs));
    // Otherwise the creation ends first, and its error says more.
    if (performance.now() + limitMs < this.#deadline) {
      waiting.timer = scheduleOn(this.#init.clock, limitMs, () => this.#expire(waiting, limitMs));
    }
    return works;
  }

  #defer(call: OpCall): DeferredWork {
    const { pair } = this.#init;
    const init = { opType: opTypeOf(call), op: opTable[call.op].api, seq: this.#numberOf(call) };
    return pair === undefined ? new DeferredWork(init, ahead) : new PairWork(init, ahead, pair);
  }

  /** The number that the communicator is going to give it; -1 for a turn. */
  #numberOf({ op, continuation }: OpCall): number {
    const { kind } = opTable[op];
    if (kind === "message") return ++this.#messages;
    if (kind !== "collective") return -1;
    return continuation ? this.#collectives : ++this.#collectives;
  }

  /** Submits messages as those of the two ranks. */
  #inPair(backend: Backend, calls: readonly OpCall[]): readonly Work<void>[] {
    const works = calls.map((call) => this.#defer(call));
    const actual = backend.submit(calls.map((call) => this.#native(call)));
    return follow(works, actual);
  }

  /** The call as the backend gets it. */
  #native(call: OpCall): OpCall {
    const { pair } = this.#init;
    return pair === undefined ? call : { ...call, peer: call.peer === pair.low ? 0 : 1 };
  }

  #expire({ calls: [call] }: Waiting, limitMs: number): void {
    if (this.#isOver || call === undefined) return;
    const { title, group, backend, rank } = this.#init;
    this.#fail(overdue(call, limitMs, { title, group, backend, rank }));
    this.#cancel.abort(new Error("an op timed out"));
  }

  /** Ends what waits, and then says that it has failed. */
  #fail(failure: DistError): void {
    this.#isOver = true;
    this.#failure = failure;
    for (const { calls, works, timer } of this.#waiting.splice(0)) {
      timer?.[Symbol.dispose]();
      for (const [i, work] of works.entries()) work.settle(whileConnecting(failure, calls[i], this.#init));
    }
    this.#init.onFailed(failure.message);
  }

  enableTiming(): void {
    this.#isTimed = true;
    this.#backend?.enableTiming();
  }

  abort(reason: string): void {
    if (this.#backend !== undefined) {
      this.#backend.abort(reason);
      return;
    }
    if (this.#isOver) return;
    const { backend, group, rank } = this.#init;
    this.#fail(new DistBackendError(reason, { code: "ABORTED", backend, group, rank }));
    this.#cancel.abort(new Error(reason));
  }

  /** Resolves when no op is in flight. */
  async drained(): Promise<void> {
    if (this.#waiting.length > 0) await this.#made;
    await this.#backend?.drained();
  }

  async close(): Promise<void> {
    if (this.#backend !== undefined) return this.#backend.close();
    this.abort("the group was closed while the op was in flight");
    await Promise.race([this.#made, Bun.sleep(CANCEL_LIMIT_MS)]);
  }
}

function follow(works: readonly DeferredWork[], actual: readonly Work<void>[]): readonly DeferredWork[] {
  for (const [i, work] of works.entries()) {
    const own = actual[i];
    if (own !== undefined) work.follow(own);
  }
  return works;
}

function ahead(): never {
  throw new UnsupportedOperationError(
    "the communicator of this op is still being made, by code that runs on this thread: await the Work, or connect " +
      "first (initProcessGroup({ deviceId }) does)",
    { code: "WAIT_WOULD_DEADLOCK" },
  );
}
