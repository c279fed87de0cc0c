import type { DistNetworkError } from "../../errors/index.ts";
import { type RedisCall, RedisLink } from "./redis-link.ts";
import type { RedisPlace } from "./redis-url.ts";

/** A listener for keys that are set. */
export interface KeyListener {
  readonly wake: () => void;
  /** The connection was lost. */
  readonly fail: (error: unknown) => void;
}

/** How long the server may take to change subscriptions. */
const changeMs = 10_000;

interface Channel {
  readonly listeners: Set<KeyListener>;
  subscribed: boolean;
}

/**
 * Notifies of keys that were set, by a channel for each key, on a separate connection that is opened for the first
 * wait. While there are no waits it has no subscriptions, and does not keep the process alive.
 */
export class KeyEvents {
  readonly #link: RedisLink;
  readonly #start: string;
  readonly #channels = new Map<string, Channel>();
  /** Subscriptions change one after the other. */
  #changes: Promise<void> = Promise.resolve();

  /** `start` is the prefix of the channels; the key follows. */
  constructor(place: RedisPlace, tls: Bun.TLSOptions | undefined, start: string) {
    this.#link = new RedisLink(place, tls, (error) => this.fail(error));
    this.#start = start;
  }

  /** Notifies `listener` of each of `keys` that is set, once `ready` has resolved. */
  listen(keys: readonly string[], listener: KeyListener): { readonly ready: Promise<void>; readonly stop: () => void } {
    const names = [...new Set(keys)].map((key) => this.#start + key);
    for (const name of names) {
      const channel = this.#channels.get(name) ?? { listeners: new Set(), subscribed: false };
      channel.listeners.add(listener);
      this.#channels.set(name, channel);
    }
    const ready = this.#change(() => this.#subscribe(names));
    const stop = () => {
      const left = names.filter((name) => {
        const listeners = this.#channels.get(name)?.listeners;
        return listeners?.delete(listener) && listeners.size === 0;
      });
      // A subscription that stays because of a failure only costs unused messages.
      if (left.length > 0) this.#change(() => this.#unsubscribe(left)).catch(() => {});
    };
    return { ready, stop };
  }

  /** Fails all listeners with an error. */
  fail(error: DistNetworkError): void {
    const listeners = new Set([...this.#channels.values()].flatMap((channel) => [...channel.listeners]));
    this.#channels.clear();
    for (const { fail } of listeners) fail(error);
  }

  close(): void {
    this.#link.close();
    this.#channels.clear();
  }

  #change(change: () => Promise<void>): Promise<void> {
    const done = this.#changes.then(change);
    this.#changes = done.catch(() => {});
    return done;
  }

  async #subscribe(names: readonly string[]): Promise<void> {
    const channels = names.flatMap((name) => {
      const channel = this.#channels.get(name);
      return channel && channel.listeners.size > 0 && !channel.subscribed ? [{ name, channel }] : [];
    });
    if (channels.length === 0) return;
    const wake = (_: string, name: string) => {
      for (const listener of this.#channels.get(name)?.listeners ?? []) listener.wake();
    };
    const wanted = channels.map(({ name }) => name);
    await this.#link.run(changeCall("subscribe"), (client) => client.subscribe(wanted, wake));
    for (const { channel } of channels) channel.subscribed = true;
  }

  async #unsubscribe(names: readonly string[]): Promise<void> {
    const unwanted = names.filter((name) => this.#channels.get(name)?.listeners.size === 0);
    const subscribed = unwanted.filter((name) => this.#channels.get(name)?.subscribed);
    for (const name of unwanted) this.#channels.delete(name);
    if (subscribed.length === 0 || this.#link.isClosed) return;
    await this.#link.run(changeCall("unsubscribe"), (client) => client.unsubscribe(subscribed));
  }
}

/** A change of subscriptions serves many calls, so it has its own limit. */
function changeCall(op: string): RedisCall {
  return { op, keys: [], limitMs: changeMs, deadline: performance.now() + changeMs, signal: undefined };
}
