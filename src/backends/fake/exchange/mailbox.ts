import type { Message } from "./exchange-port.ts";

/** Matches the sends and recvs of one group: same pair of ranks, same tag, first come, first served. */
export class Mailbox {
  #waiting: Message[] = [];

  /** Messages without a partner so far. */
  get waiting(): readonly Message[] {
    return this.#waiting;
  }

  /** Removes and returns the partner of a message; if there is none, keeps the message. */
  post(message: Message): Message | undefined {
    const at = this.#waiting.findIndex((other) => matches(message, other));
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

function matches(a: Message, b: Message): boolean {
  if (a.kind === b.kind || a.tag !== b.tag) return false;
  return (a.peer === b.rank || a.peer < 0) && (b.peer === a.rank || b.peer < 0);
}
