import { absenceText, messageOf, ranksText } from "../../../errors/index.ts";
import type { Clock } from "../../../registry/index.ts";
import { agree, messageMismatchText, mismatchText, splitMismatchText, textOf } from "../call-text.ts";
import { resultsOf, SplitMismatch } from "../collective-results.ts";
import { copyOf } from "../element-bytes.ts";
import type { NumberedCall } from "../numbered-call.ts";
import type { DeliveryOrder } from "./delivery-order.ts";
import type { ExchangePort, Failure, Member, Message, PendingOp } from "./exchange-port.ts";
import { Mailbox } from "./mailbox.ts";

interface Arrival {
  readonly call: NumberedCall;
  readonly op: PendingOp;
}

/** Two different calls in one round. They fail the group once the collectives before them have ended. */
interface Mismatch {
  readonly round: number;
  readonly failure: Failure;
  readonly timer: Disposable;
}

/** How long the collectives before a mismatch may take to end. */
const MISMATCH_GRACE_MS = 5_000;

/** Where the ranks of one group exchange their data, in one thread. */
export class Exchange implements ExchangePort {
  readonly size: number;
  readonly order: DeliveryOrder;
  readonly #clock: Clock;
  readonly #members: Member[] = [];
  /** Ranks that have left, and how. */
  readonly #left = new Map<number, string>();
  readonly #mailbox = new Mailbox();
  /** Collectives that not all ranks have called yet, by round. */
  readonly #collectives = new Map<number, Map<number, Arrival>>();
  /** Ops of collectives that all ranks have called and whose results are still to be delivered. */
  #undelivered = 0;
  #mismatch: Mismatch | undefined;
  /** How many collectives each rank has refused. */
  readonly #refusals = new Map<number, number>();
  #failure: Failure | undefined;

  constructor(size: number, order: DeliveryOrder, clock: Clock) {
    this.size = size;
    this.order = order;
    this.#clock = clock;
  }

  get failure(): Failure | undefined {
    return this.#failure;
  }

  addMember(member: Member): void {
    this.#members.push(member);
  }

  /** A rank calls its collective of this round. The last one completes it for all. */
  enter(rank: number, round: number, call: NumberedCall, op: PendingOp): void {
    const arrivals = this.#collectives.get(round) ?? new Map<number, Arrival>();
    this.#collectives.set(round, arrivals);
    const [first] = arrivals;
    arrivals.set(rank, { call, op });
    if (this.#mismatch !== undefined && round >= this.#mismatch.round) return;
    if (first !== undefined && !agree(first[1].call, call)) {
      this.#failDesync(rank, mismatchText({ rank: first[0], call: first[1].call }, { rank, call }), round);
      return;
    }
    if (!this.#failIfLeft(arrivals) && arrivals.size === this.size) this.#complete(round, arrivals);
  }

  refuse(rank: number): void {
    this.#refusals.set(rank, (this.#refusals.get(rank) ?? 0) + 1);
  }

  /** Fails the group if ranks have left that a collective still needs, and names all of them. */
  #failIfLeft(arrivals: ReadonlyMap<number, Arrival>): boolean {
    const gone = [...this.#left.keys()].filter((other) => !arrivals.has(other)).sort((a, b) => a - b);
    const [first] = gone;
    if (first === undefined) return false;
    const text = gone.map((rank) => `rank ${rank} ${this.#left.get(rank)}`).join(", ");
    this.#fail("left", first, gone, `${text} before ${gone.length === 1 ? "it" : "they"} called this op`);
    return true;
  }

  #complete(round: number, arrivals: ReadonlyMap<number, Arrival>): void {
    this.#collectives.delete(round);
    const inOrder = Array.from({ length: this.size }, (_, rank) => arrivals.get(rank)).filter(
      (each) => each !== undefined,
    );
    try {
      for (const [rank, bytes] of resultsOf(inOrder.map(({ call }) => call)).entries()) {
        inOrder[rank]?.op.arrive(bytes);
      }
    } catch (error) {
      this.#failDesync(0, splitText(inOrder[0]?.call, error), round);
      return;
    }
    this.#undelivered += inOrder.length;
    for (const { op } of inOrder) this.order.add(() => this.#deliver(op));
  }

  #deliver(op: PendingOp): void {
    try {
      op.deliver();
    } finally {
      this.#undelivered--;
      this.#failIfDue();
    }
  }

  /** A rank sends or receives. */
  post(message: Message): void {
    const partner = this.#mailbox.post(message);
    if (partner === undefined) {
      this.#failIfDeserted();
      return;
    }
    const [send, recv] = message.kind === "send" ? [message, partner] : [partner, message];
    if (send.tensor.dtype !== recv.tensor.dtype || send.tensor.length !== recv.tensor.length) {
      this.#failDesync(recv.rank, messageMismatchText(send, recv));
      return;
    }
    recv.op.arrive([copyOf(send.tensor)], send.rank);
    send.op.arrive([]);
    for (const { op } of [send, recv]) this.order.add(() => op.deliver());
  }

  /** A rank has left; ops that still need it fail. */
  leave(rank: number, how = "closed the group"): void {
    if (this.#left.has(rank)) return;
    this.#left.set(rank, how);
    const waiting = [...this.#collectives.values()].find((arrivals) => !arrivals.has(rank));
    if (waiting === undefined || !this.#failIfLeft(waiting)) this.#failIfDeserted();
  }

  abort(rank: number, text: string): void {
    this.#fail("aborted", rank, [rank], text);
  }

  timeOut(rank: number, op: PendingOp): void {
    const limit = `timed out after ${op.timeoutMs} ms`;
    const arrivals = [...this.#collectives.values()].find((each) => each.get(rank)?.op === op);
    const message = this.#mailbox.waiting.find((each) => each.op === op);
    const other = message && this.#mailbox.waiting.find((each) => each.rank === message.peer && each.peer === rank);
    if (message !== undefined && other !== undefined) {
      // There is no way to know which of the two should have sent, or with which tag.
      const [a, b] = message.rank < other.rank ? [message, other] : [other, message];
      const text = `ranks ${a.rank} and ${b.rank} waited for each other, at ${messageText(a)} and ${messageText(b)}`;
      this.#fail("timeout", rank, [], `${limit}; ${text}`);
      return;
    }
    const deserted = message && [...this.#collectives.values()].find((each) => isDeserted(each, message));
    if (message !== undefined && deserted !== undefined) {
      const missing = this.#missingIn(deserted);
      const verb = missing.length === 1 ? "has" : "have";
      const text = `${limit} of waiting for rank ${message.peer}${this.#whereIs(message.peer)}`;
      this.#fail("timeout", rank, missing, `${text}, which ${ranksText(missing)} ${verb} not called`);
      return;
    }
    const peers = message !== undefined && message.peer >= 0 ? [message.peer] : [];
    const missing = arrivals ? this.#missingIn(arrivals) : peers;
    const reason = missing.length === 0 ? "no rank sent" : absenceText(-1, missing);
    this.#fail("timeout", rank, missing, `${limit}; ${reason}${missing.map((each) => this.#whereIs(each)).join("")}`);
  }

  /** The ranks that have not called a collective, except those that wait for a message of such a rank. */
  #missingIn(arrivals: ReadonlyMap<number, Arrival>): readonly number[] {
    const missing = Array.from({ length: this.size }, (_, each) => each).filter((each) => !arrivals.has(each));
    const waits = ({ peer }: Message) => missing.includes(peer);
    const first = missing.filter((rank) => !this.#mailbox.waiting.some((each) => each.rank === rank && waits(each)));
    return first.length > 0 ? first : missing;
  }

  /** What is known of a rank that another one waited for. */
  #whereIs(rank: number): string {
    const message = this.#mailbox.waiting.find((each) => each.rank === rank);
    if (message !== undefined) return `; rank ${rank} was at ${messageText(message)}`;
    for (const arrivals of this.#collectives.values()) {
      const call = arrivals.get(rank)?.call;
      if (call !== undefined) return `; rank ${rank} was at ${textOf(call)} as collective #${call.number}`;
    }
    const refusals = this.#refusals.get(rank);
    return refusals ? `; rank ${rank} has refused ${refusals} ${refusals === 1 ? "call" : "calls"}` : "";
  }

  #failIfDeserted(): void {
    const others = this.size - 1;
    const deserted = this.#mailbox.waiting.find(({ rank, peer }) =>
      peer < 0
        ? others > 0 && [...this.#left.keys()].filter((other) => other !== rank).length === others
        : this.#left.has(peer),
    );
    if (deserted === undefined) return;
    const gone = deserted.peer < 0 ? [...this.#left.keys()] : [deserted.peer];
    const how = this.#left.get(gone[0] ?? -1) ?? "closed the group";
    this.#fail("left", gone[0] ?? 0, gone, `${ranksText(gone)} ${how}`);
  }

  /**
   * Two calls differ; there is no way to know which is wrong.
   *
   * @param round For two collectives, their round: those before it, which all ranks called alike, end first.
   */
  #failDesync(rank: number, text: string, round = 0): void {
    const failure = { kind: "mismatch", rank, peers: [], text } as const;
    this.#mismatch?.timer[Symbol.dispose]();
    const timer = this.#clock.schedule(MISMATCH_GRACE_MS, () => this.#end(failure));
    this.#mismatch = { round, failure, timer };
    this.#failIfDue();
  }

  #failIfDue(): void {
    if (this.#mismatch === undefined) return;
    const { round, failure } = this.#mismatch;
    const isEarlier = (other: number) => other < round;
    if (round === 0 || (this.#undelivered === 0 && ![...this.#collectives.keys()].some(isEarlier))) this.#end(failure);
  }

  #fail(kind: Exclude<Failure["kind"], "mismatch">, rank: number, peers: readonly number[], text: string): void {
    const follows = kind === "aborted" ? undefined : this.#mismatch?.failure;
    this.#end(follows ?? { kind, rank, peers, text });
  }

  #end(failure: Failure): void {
    if (this.#failure !== undefined) return;
    this.#failure = failure;
    this.#mismatch?.timer[Symbol.dispose]();
    this.#collectives.clear();
    this.#mailbox.clear();
    for (const member of this.#members) member.onFailure(failure);
  }
}

/** Whether the peer of a message waits in a collective that the rank of the message has not called. */
function isDeserted(arrivals: ReadonlyMap<number, Arrival>, { rank, peer }: Message): boolean {
  return arrivals.has(peer) && !arrivals.has(rank);
}

/** Such as `recv from rank 0 with tag 5`. */
function messageText({ kind, peer, tag }: Message): string {
  const way = kind === "send" ? "to" : "from";
  return `${kind} ${way} ${peer < 0 ? "any rank" : `rank ${peer}`} with tag ${tag}`;
}

function splitText(call: NumberedCall | undefined, error: unknown): string {
  const dtype = call?.inputs[0]?.dtype ?? call?.outputs[0]?.dtype;
  if (!(error instanceof SplitMismatch) || call === undefined || dtype === undefined) {
    return `collective #${call?.number}: ${messageOf(error)}`;
  }
  const { sender, sentBytes, receiver, expectedBytes } = error;
  return splitMismatchText(call, dtype, sender, sentBytes, receiver, expectedBytes);
}
