import type { NumberedCall } from "../numbered-call.ts";
import type { Message } from "./mailbox.ts";

/** Why a group has failed, as all its ranks hear it. */
export interface Failure {
  readonly kind: "timeout" | "aborted" | "left" | "mismatch";
  /** Rank that found out or that did it. */
  readonly rank: number;
  /** Ranks that are to blame. */
  readonly peers: readonly number[];
  readonly text: string;
}

/** A rank as the exchange knows it. */
export interface Member {
  /** Called once; everything in flight has to be rejected. */
  onFailure(failure: Failure): void;
}

/** A rank's op as the exchange knows it. */
export interface PendingOp {
  readonly timeoutMs: number;
  /**
   * The data is there: its time-out cannot end the op any more. It ends by {@link deliver}, or with its group.
   *
   * @param bytes New contents of the outputs, in their order; a list that is shorter leaves the rest as it is.
   * @param source Rank that a message comes from.
   */
  arrive(bytes: readonly Uint8Array<ArrayBuffer>[], source?: number): void;
  /** Writes the data that has arrived and ends the op. */
  deliver(): void;
}

/** What a rank sees of the place where the ranks of its group exchange their data. */
export interface ExchangePort {
  readonly size: number;
  readonly failure: Failure | undefined;
  addMember(member: Member): void;
  /** A rank comes to a collective. Its rounds are numbered from 1: one for each collective, two for a sparse all-reduce. */
  enter(rank: number, round: number, call: NumberedCall, op: PendingOp): void;
  /** A rank has refused a collective: it will not come to it. */
  refuse(rank: number): void;
  /** A rank sends or receives. */
  post(message: Message): void;
  /** A rank has closed the group; what still needs it fails. */
  leave(rank: number): void;
  abort(rank: number, text: string): void;
  /** A rank's op has run out of time. */
  timeOut(rank: number, op: PendingOp): void;
  /** Blocks this thread until something has come from the exchange; undefined where the exchange is in this thread. */
  readonly pump?: (limitMs: number) => void;
}
