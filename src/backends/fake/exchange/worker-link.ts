import { receiveMessageOnPort } from "node:worker_threads";
import type { NumberedCall } from "../numbered-call.ts";
import { carryCall, carryTensor } from "./carried-call.ts";
import type { ExchangePort, Failure, Member, Message, PendingOp } from "./exchange-port.ts";
import { type MeetingOutcome, type MeetingRank, ranksApart, requireMet, shareToken } from "./meeting.ts";
import type { ToCoordinator, ToWorker, WorkerSlot } from "./worker-protocol.ts";

const KEY = Symbol.for("bun-c10d.fake.worker-link");
const shared = globalThis as { [KEY]?: WorkerLink };

/** How this thread reaches the coordinator; undefined unless it is a Worker that was given a slot. */
export function workerLink(): WorkerLink | undefined {
  return shared[KEY];
}

/** Connects ranks of the fake backend in this Worker to the coordinator. */
export function takeSlot(slot: WorkerSlot): void {
  shared[KEY] = new WorkerLink(slot);
}

/** A Worker's connection to the coordinator. */
export class WorkerLink {
  readonly #slot: WorkerSlot;
  readonly #bell: Int32Array;
  readonly #exchanges = new Map<string, RemoteExchange>();
  readonly #outcomes = new Map<string, (outcome: MeetingOutcome) => void>();
  #holders = 0;

  constructor(slot: WorkerSlot) {
    this.#slot = slot;
    this.#bell = new Int32Array(slot.bell);
    slot.port.on("message", (message: ToWorker) => this.#receive(message));
    slot.port.unref();
  }

  /** Keeps the Worker alive until {@link release}, while an answer is pending. */
  hold(): void {
    if (this.#holders++ === 0) this.#slot.port.ref();
  }

  release(): void {
    if (--this.#holders === 0) this.#slot.port.unref();
  }

  /**
   * Meets the other ranks of a group, each in a Worker of this process.
   *
   * @throws BackendUnavailableError when rank 0 is elsewhere, DistTimeoutError (`CONNECT_TIMEOUT`) naming absent ranks.
   */
  async meet(member: MeetingRank, seed: number | undefined): Promise<ExchangePort> {
    const { rank, size, timeoutMs } = member;
    const token = await shareToken(member, () => `${this.#slot.place}/${crypto.randomUUID()}`);
    if (!token.startsWith(`${this.#slot.place}/`)) throw ranksApart(member);
    const { promise, resolve } = Promise.withResolvers<MeetingOutcome>();
    this.#outcomes.set(token, resolve);
    const exchange = new RemoteExchange(token, rank, size, this);
    this.#exchanges.set(token, exchange);
    this.send({ kind: "meet", token, rank, size, seed, timeoutMs });
    this.hold();
    const outcome = await promise;
    this.release();
    if (outcome.kind !== "met") this.forget(token);
    requireMet(outcome, member, seed);
    return exchange;
  }

  send(message: ToCoordinator): void {
    this.#slot.port.postMessage(message);
  }

  forget(token: string): void {
    this.#exchanges.delete(token);
  }

  /** Receives the messages that have arrived so far; returns whether there were any. */
  poll(): boolean {
    let received = false;
    for (;;) {
      const next = receiveMessageOnPort(this.#slot.port) as { readonly message: ToWorker } | undefined;
      if (next === undefined) return received;
      received = true;
      this.#receive(next.message);
    }
  }

  /** Blocks this thread until a message arrives, and receives it. */
  pump(limitMs: number): void {
    const rung = Atomics.load(this.#bell, 0);
    if (this.poll()) return;
    Atomics.wait(this.#bell, 0, rung, limitMs);
    this.poll();
  }

  #receive(message: ToWorker): void {
    if (message.kind === "outcome") {
      this.#outcomes.get(message.token)?.(message.outcome);
      this.#outcomes.delete(message.token);
    } else this.#exchanges.get(message.token)?.receive(message);
  }
}

/** The exchange of a group as a Worker sees it. */
class RemoteExchange implements ExchangePort {
  readonly size: number;
  readonly pump: (limitMs: number) => void;
  readonly #token: string;
  readonly #rank: number;
  readonly #link: WorkerLink;
  /** Ops in flight, by their number. */
  readonly #ops = new Map<number, PendingOp>();
  #count = 0;
  #member: Member | undefined;
  #failure: Failure | undefined;

  constructor(token: string, rank: number, size: number, link: WorkerLink) {
    this.#token = token;
    this.#rank = rank;
    this.size = size;
    this.#link = link;
    this.pump = (limitMs) => link.pump(limitMs);
  }

  get failure(): Failure | undefined {
    if (this.#failure === undefined) this.#link.poll();
    return this.#failure;
  }

  addMember(member: Member): void {
    this.#member = member;
  }

  enter(_rank: number, round: number, call: NumberedCall, op: PendingOp): void {
    this.#link.send({
      ...this.#sender,
      kind: "enter",
      op: this.#add(op),
      round,
      timeoutMs: op.timeoutMs,
      call: carryCall(call),
    });
  }

  post({ kind, peer, tag, tensor, op }: Message): void {
    const number = this.#add(op);
    const carried = carryTensor(tensor, kind === "send");
    this.#link.send({ ...this.#sender, kind, op: number, timeoutMs: op.timeoutMs, peer, tag, tensor: carried });
  }

  refuse(): void {
    this.#link.send({ ...this.#sender, kind: "refuse" });
  }

  leave(): void {
    this.#link.send({ ...this.#sender, kind: "leave" });
    this.#link.forget(this.#token);
  }

  abort(_rank: number, text: string): void {
    this.#link.send({ ...this.#sender, kind: "abort", text });
    // At once, as among ranks of one thread; the coordinator's answer finds nothing left to do.
    this.#fail({ kind: "aborted", rank: this.#rank, peers: [this.#rank], text });
  }

  timeOut(_rank: number, op: PendingOp): void {
    for (const [number, each] of this.#ops) {
      if (each === op) this.#link.send({ ...this.#sender, kind: "timeout", op: number });
    }
  }

  receive(message: Exclude<ToWorker, { kind: "outcome" }>): void {
    if (message.kind === "failure") {
      this.#fail(message.failure);
      return;
    }
    const op = this.#ops.get(message.op);
    if (op === undefined) return;
    this.#ops.delete(message.op);
    this.#link.release();
    op.arrive(message.bytes, message.source);
    op.deliver();
  }

  get #sender() {
    return { token: this.#token, rank: this.#rank };
  }

  #add(op: PendingOp): number {
    this.#ops.set(++this.#count, op);
    this.#link.hold();
    return this.#count;
  }

  #fail(failure: Failure): void {
    if (this.#failure !== undefined) return;
    this.#failure = failure;
    for (const _ of this.#ops) this.#link.release();
    this.#ops.clear();
    this.#member?.onFailure(failure);
  }
}
