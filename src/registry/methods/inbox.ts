import type { DistError } from "../../errors/index.ts";

/** What has come under one key, or who waits for it: never both. */
interface Slot<T> {
  readonly arrived: T[];
  readonly awaited: PromiseWithResolvers<T>[];
}

/**
 * Where what other ranks send meets the ops that wait for it, whichever comes first. For backends in TypeScript: the wire
 * delivers, the methods take. What has the same sender and tag keeps its order.
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

  /** Something has come from a rank. */
  deliver(peer: number, tag: string, value: T): void {
    const { arrived, awaited } = this.#slot(peer, tag);
    const taker = awaited.shift();
    if (taker === undefined) arrived.push(value);
    else taker.resolve(value);
    this.#tidy(peer, tag);
  }

  /** The next that comes from a rank under this tag. Rejects if nothing is there, and the rank is lost or will be. */
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

  /** Nothing comes from these ranks any more, because of this error; the first one of a rank counts. What has come can still be taken. */
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
