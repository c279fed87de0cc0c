import { MessageChannel, type MessagePort } from "node:worker_threads";
import { systemClock } from "../../../registry/index.ts";
import { receiveCall, receiveTensor } from "./carried-call.ts";
import type { Exchange } from "./exchange.ts";
import type { Member, PendingOp } from "./exchange-port.ts";
import { Meeting } from "./meeting.ts";
import type { ToCoordinator, ToWorker, WorkerSlot } from "./worker-protocol.ts";

/**
 * Where ranks in Workers meet and exchange their data: on the thread that started them, which never blocks. So a Worker
 * may block in `wait()`, and one that dies loses no data that others need.
 */
export class Coordinator {
  readonly place = `${process.pid}/${crypto.randomUUID()}`;
  readonly #meetings = new Map<string, Meeting>();
  readonly #workers: WorkerProxy[] = [];

  /** A slot for one more Worker, to be transferred to it, and a function to call when the Worker has ended. */
  addWorker(): { readonly slot: WorkerSlot; ended(how: string): void } {
    const { port1, port2 } = new MessageChannel();
    const bell = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
    const worker = new WorkerProxy(port1, bell, (token, size, seed) => this.#meeting(token, size, seed));
    this.#workers.push(worker);
    return { slot: { port: port2, bell, place: this.place }, ended: (how) => worker.end(how) };
  }

  /** Releases all Workers. */
  close(): void {
    for (const worker of this.#workers) worker.end("was closed");
    this.#meetings.clear();
  }

  #meeting(token: string, size: number, seed: number | undefined): Meeting {
    const meeting = this.#meetings.get(token) ?? new Meeting(size, seed, systemClock);
    this.#meetings.set(token, meeting);
    // A late rank still has to find a meeting that was given up.
    for (const [name, { over, givenUp }] of this.#meetings) if (over && !givenUp) this.#meetings.delete(name);
    return meeting;
  }
}

type MeetingOf = (token: string, size: number, seed: number | undefined) => Meeting;

/** Represents one Worker in the exchanges of its groups. */
class WorkerProxy {
  readonly #port: MessagePort;
  readonly #bell: Int32Array;
  readonly #meetingOf: MeetingOf;
  readonly #groups = new Map<string, Membership>();
  #ended: string | undefined;

  constructor(port: MessagePort, bell: SharedArrayBuffer, meetingOf: MeetingOf) {
    this.#port = port;
    this.#bell = new Int32Array(bell);
    this.#meetingOf = meetingOf;
    port.on("message", (message: ToCoordinator) => this.#receive(message));
  }

  /** The Worker has ended: ranks that still need it fail. */
  end(how: string): void {
    if (this.#ended !== undefined) return;
    this.#ended = how;
    for (const { exchange, rank } of this.#groups.values()) exchange.leave(rank, how);
    this.#port.close();
  }

  #send(message: ToWorker): void {
    if (this.#ended !== undefined) return;
    this.#port.postMessage(message);
    Atomics.add(this.#bell, 0, 1);
    Atomics.notify(this.#bell, 0);
  }

  #receive(message: ToCoordinator): void {
    if (message.kind === "meet") {
      void this.#meet(message);
      return;
    }
    this.#groups.get(message.token)?.receive(message);
  }

  async #meet({ token, rank, size, seed, timeoutMs }: Extract<ToCoordinator, { kind: "meet" }>): Promise<void> {
    const meeting = this.#meetingOf(token, size, seed);
    const outcome = await meeting.meet(rank, size, seed, timeoutMs, systemClock);
    if (outcome.kind === "met") {
      const membership = new Membership(rank, meeting.exchange, (message) => this.#send({ token, ...message }));
      this.#groups.set(token, membership);
      if (this.#ended !== undefined) meeting.exchange.leave(rank, this.#ended);
    }
    this.#send({ kind: "outcome", token, outcome });
  }
}

type GroupMessage = ToWorker extends infer Each ? (Each extends { kind: string } ? Omit<Each, "token"> : never) : never;

/** A Worker's membership of one group. */
class Membership implements Member {
  readonly rank: number;
  readonly exchange: Exchange;
  readonly #send: (message: GroupMessage) => void;
  /** Ops in flight, by their number. */
  readonly #ops = new Map<number, RemoteOp>();

  constructor(rank: number, exchange: Exchange, send: (message: GroupMessage) => void) {
    this.rank = rank;
    this.exchange = exchange;
    this.#send = send;
    exchange.addMember(this);
  }

  onFailure(failure: NonNullable<Exchange["failure"]>): void {
    this.#ops.clear();
    this.#send({ kind: "failure", failure });
  }

  receive(message: Exclude<ToCoordinator, { kind: "meet" }>): void {
    const { exchange, rank } = this;
    switch (message.kind) {
      case "enter":
        // The Worker has not been notified of the failure yet; it will be before it receives anything else.
        if (exchange.failure !== undefined) return;
        exchange.enter(rank, message.round, receiveCall(message.call), this.#op(message.op, message.timeoutMs));
        return;
      case "send":
      case "recv": {
        if (exchange.failure !== undefined) return;
        const { kind, peer, tag } = message;
        const op = this.#op(message.op, message.timeoutMs);
        exchange.post({ kind, rank, peer, tag, tensor: receiveTensor(message.tensor), op });
        return;
      }
      case "timeout": {
        const op = this.#ops.get(message.op);
        if (op !== undefined && !op.hasArrived) exchange.timeOut(rank, op);
        return;
      }
      case "abort":
        exchange.abort(rank, message.text);
        return;
      case "refuse":
        exchange.refuse(rank);
        return;
      case "leave":
        exchange.leave(rank);
    }
  }

  #op(number: number, timeoutMs: number): RemoteOp {
    const op = new RemoteOp(timeoutMs, (bytes, source) => {
      this.#ops.delete(number);
      this.#send({ kind: "deliver", op: number, bytes, source });
    });
    this.#ops.set(number, op);
    return op;
  }
}

type Deliver = (bytes: readonly Uint8Array<ArrayBuffer>[], source: number) => void;

/** An op of a Worker: its results are forwarded to the Worker. */
class RemoteOp implements PendingOp {
  readonly timeoutMs: number;
  readonly #deliver: Deliver;
  #arrived: { readonly bytes: readonly Uint8Array<ArrayBuffer>[]; readonly source: number } | undefined;

  constructor(timeoutMs: number, deliver: Deliver) {
    this.timeoutMs = timeoutMs;
    this.#deliver = deliver;
  }

  get hasArrived(): boolean {
    return this.#arrived !== undefined;
  }

  arrive(bytes: readonly Uint8Array<ArrayBuffer>[], source = -1): void {
    this.#arrived = { bytes, source };
  }

  deliver(): void {
    if (this.#arrived !== undefined) this.#deliver(this.#arrived.bytes, this.#arrived.source);
  }
}
