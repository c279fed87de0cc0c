import { type OpCall, opCall, opTypeOf } from "../../collectives/op-call.ts";
import { opTable } from "../../collectives/op-table.ts";
import { DistBackendError, type DistError, InvalidArgumentError } from "../../errors/index.ts";
import { type Backend, type Clock, scheduleOn } from "../../registry/index.ts";
import type { Device } from "../../tensor/index.ts";
import { type GroupState, Work } from "../../work/index.ts";
import { type Awaited, LazyWork } from "../native/lazy-work.ts";
import type { OpStreams } from "../native/op-streams.ts";
import { streamOf, WaitingCalls } from "../native/waiting-calls.ts";
import { type Pair, PairWork } from "./pair-work.ts";
import { creationFailure, notSubmitted, overdue, whileConnecting } from "./waiting-errors.ts";

/** How a {@link Communicator} is made, and who hears of its end. */
export interface CommunicatorInit {
  /** For messages: `cuda:0`, or the ranks of a pair. */
  readonly title: string;
  /** Key of its unique id. */
  readonly idKey: string;
  readonly backend: string;
  readonly group: string;
  readonly rank: number;
  readonly device: Device;
  readonly streams: OpStreams;
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
  readonly #waiting: WaitingCalls<LazyWork>[] = [];

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

  /**
   * Submits calls in a stream of their own, since more may have been put into theirs. The other ranks count on what was
   * called, and NCCL does not compare it: if the calls cannot be submitted any more, the group fails.
   */
  #submitWaiting(backend: Backend, waiting: WaitingCalls<LazyWork>): void {
    const { calls, works } = waiting;
    const { backend: name, group, rank, device, streams } = this.#init;
    const wasOpen = backend.state === "OPEN";
    let failure: DistError | undefined;
    try {
      using gate = streams.gate(device);
      const actual = backend.submit(waiting.through(gate.stream).map((call) => this.#native(call)));
      follow(works, actual);
      failure = works.find((work) => work.isCompleted() && !work.isSuccess())?.exception();
    } catch (error) {
      failure = notSubmitted(error, calls[0], { backend: name, group, rank });
      for (const work of works) work.settle(failure);
    }
    waiting[Symbol.dispose]();
    if (failure !== undefined && wasOpen) backend.abort(failure.message);
  }

  /** Key of its unique id. */
  get idKey(): string {
    return this.#init.idKey;
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
    try {
      this.#await(new WaitingCalls(calls, works, this.#init.streams));
    } catch (error) {
      this.#refuse(calls, works, error);
    }
    return works;
  }

  /** Ends calls that cannot wait: those of lost memory, as argument errors, take their turn; a lost device fails all. */
  #refuse(calls: readonly OpCall[], works: readonly LazyWork[], error: unknown): void {
    const { backend, group, rank, streams } = this.#init;
    const refusal = notSubmitted(error, calls[0], { backend, group, rank });
    for (const work of works) work.settle(refusal);
    if (!(refusal instanceof InvalidArgumentError)) {
      this.#fail(refusal);
      this.#cancel.abort(refusal);
      return;
    }
    const turns = calls.filter(({ op }) => opTable[op].kind === "collective").map(turnOf);
    if (turns.length > 0) this.#await(new WaitingCalls(turns, [], streams));
  }

  #await(waiting: WaitingCalls<LazyWork>): void {
    this.#waiting.push(waiting);
    const limitMs = Math.min(...waiting.calls.map(({ timeoutMs }) => timeoutMs));
    // Otherwise the creation ends first, and its error says more.
    if (performance.now() + limitMs >= this.#deadline) return;
    waiting.timer = scheduleOn(this.#init.clock, limitMs, () => this.#expire(waiting, limitMs));
  }

  #defer(call: OpCall): LazyWork {
    const { pair } = this.#init;
    const init = { opType: opTypeOf(call), op: opTable[call.op].api, seq: this.#numberOf(call) };
    const stream = { device: call.device, handle: streamOf(call).handle };
    return pair === undefined ? new LazyWork(init, stream, connecting) : new PairWork(init, stream, connecting, pair);
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

  #expire({ calls: [call] }: WaitingCalls, limitMs: number): void {
    if (this.#isOver || call === undefined) return;
    const { title, group, backend, rank } = this.#init;
    this.#fail(overdue(call, limitMs, { title, group, backend, rank }));
    this.#cancel.abort(new Error("an op timed out"));
  }

  /** Ends what waits, and then says that it has failed. */
  #fail(failure: DistError): void {
    this.#isOver = true;
    this.#failure = failure;
    for (const waiting of this.#waiting.splice(0)) {
      const { calls, works } = waiting;
      waiting[Symbol.dispose]();
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

/** What ops wait for. */
const connecting: Awaited = {
  what: "its communicator",
  remedy: "await the Work, or connect first (initProcessGroup({ deviceId }) does)",
};

function follow(works: readonly LazyWork[], actual: readonly Work<void>[]): readonly LazyWork[] {
  for (const [i, work] of works.entries()) {
    const own = actual[i];
    if (own !== undefined) work.follow(own);
  }
  return works;
}

/** The place of a call that was refused, among the calls of the other ranks. */
function turnOf({ device, timeoutMs }: OpCall): OpCall {
  return opCall("refused", device, [], [], timeoutMs);
}
