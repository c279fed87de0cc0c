import type { TensorView } from "../../../tensor/index.ts";
import type { NumberedCall } from "../numbered-call.ts";

/** Why a group failed, as all its ranks are notified. */
export interface Failure {
  readonly kind: "timeout" | "aborted" | "left" | "mismatch";
  /** Rank that detected or caused it. */
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
   * The data has arrived: the op can no longer time out. It ends by {@link deliver}, or with its group.
   *
   * @param bytes New contents of the outputs, in their order; a shorter list leaves the rest unchanged.
   * @param source Rank that a message comes from.
   */
  arrive(bytes: readonly Uint8Array<ArrayBuffer>[], source?: number): void;
  /** Writes the data that has arrived and ends the op. */
  deliver(): void;
}

/** A rank's view of the exchange of its group. */
export interface ExchangePort {
  readonly size: number;
  readonly failure: Failure | undefined;
  addMember(member: Member): void;
  /** A rank calls a collective. Rounds are numbered from 1: one for each collective, two for a sparse all-reduce. */
  enter(rank: number, round: number, call: NumberedCall, op: PendingOp): void;
  /** A rank refused a collective and will not take part in it. */
  refuse(rank: number): void;
  /** A rank sends or receives. */
  post(message: Message): void;
  /** A rank has closed the group; ops that still need it fail. */
  leave(rank: number): void;
  abort(rank: number, text: string): void;
  /** A rank's op has run out of time. */
  timeOut(rank: number, op: PendingOp): void;
  /** Blocks this thread until a message from the exchange arrives; undefined if the exchange is in this thread. */
  readonly pump?: (limitMs: number) => void;
}

/** A send or a recv that waits for its partner. */
export interface Message {
  readonly kind: "send" | "recv";
  /** Rank that posted it. */
  readonly rank: number;
  /** Rank at the other end; -1 for a recv from any. */
  readonly peer: number;
  readonly tag: number;
  readonly tensor: TensorView;
  readonly op: PendingOp;
}
