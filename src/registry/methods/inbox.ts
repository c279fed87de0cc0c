import type { DistError } from "../../errors/index.ts";

/** The values that have arrived under one key, or the takers that wait for one: never both. */
interface Slot<T> {
  readonly arrived: T[];
  readonly awaited: PromiseWithResolvers<T>[];
}

/**
 * Matches what other ranks send with the ops that wait for it, whichever comes first. For backends in TypeScript: the
 * connection delivers, the methods take. Values with the same sender and tag keep their order.
 *
 * ```ts
 * socket.onmessage = ({ data }) => inbox.deliver(peer, `turn ${turn}`, data);
 * const part = await inbox.take(peer, `turn ${turn}`);
 * ```
 */
export class Inbox<T> {
  /** By sender, then by tag. */
  readonly #slots = new Map<number, Map<string, Slot<T>>>();
  readonly #ends = new Map<number, DistError>();

  /** Adds a value that has arrived from a rank. */
  deliver(peer: number, tag: string, value: T): void {
    const { arrived, awaited } = this.#slot(peer, tag);
    const taker = awaited.shift();
    if (taker === undefined) arrived.push(value);
    else taker.resolve(value);
    this.#tidy(peer, tag);
  }

  /** The next value from a rank with this tag. Rejects if there is none and the rank is lost, now or later. */
  take(peer: number, tag: string): Promise<T> {
    const end = this.#ends.get(peer);
    const { arrived, awaited } = this.#slot(peer, tag);
    const taker = Promise.withResolvers<T>();
    if (arrived.length > 0) taker.resolve(arrived.shift() as T);
    else if (end !== undefined) taker.reject(end);
    else awaited.push(taker);
    this.#tidy(peer, tag);
    return taker.promise;
  }

  /** Declares ranks lost, with this error; the first error of a rank counts. What has arrived can still be taken. */
  end(peers: Iterable<number>, error: DistError): void {
    for (const peer of peers) {
      if (this.#ends.has(peer)) continue;
      this.#ends.set(peer, error);
      for (const [tag, { awaited }] of this.#slots.get(peer) ?? []) {
        for (const { reject } of awaited.splice(0)) reject(error);
        this.#tidy(peer, tag);
      }
    }
  }

  #slot(peer: number, tag: string): Slot<T> {
    const tags = this.#slots.get(peer) ?? new Map<string, Slot<T>>();
    const slot = tags.get(tag) ?? { arrived: [], awaited: [] };
    this.#slots.set(peer, tags.set(tag, slot));
    return slot;
  }

  #tidy(peer: number, tag: string): void {
    const slot = this.#slots.get(peer)?.get(tag);
    if (slot?.arrived.length === 0 && slot.awaited.length === 0) this.#slots.get(peer)?.delete(tag);
  }
}
