import type { TensorView } from "../../../tensor/index.ts";
import type { PendingOp } from "./exchange-port.ts";

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

/** Brings sends and recvs of one group together: same pair of ranks, same tag, first come, first served. */
export class Mailbox {
  #waiting: Message[] = [];

  /** Messages without a partner so far. */
  get waiting(): readonly Message[] {
    return this.#waiting;
  }

  /** The partner of a message, which leaves the box; without one, the message stays in it. */
  post(message: Message): Message | undefined {
    const at = this.#waiting.findIndex((other) => fits(message, other));
    if (at < 0) {
      this.#waiting.push(message);
      return undefined;
    }
    const [partner] = this.#waiting.splice(at, 1);
    return partner;
  }

  clear(): void {
    this.#waiting = [];
  }
}

function fits(a: Message, b: Message): boolean {
  if (a.kind === b.kind || a.tag !== b.tag) return false;
  return (a.peer === b.rank || a.peer < 0) && (b.peer === a.rank || b.peer < 0);
}
