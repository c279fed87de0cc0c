import { InvalidArgumentError } from "../../errors/index.ts";
import { msUntil, startTimer } from "../../time/index.ts";
import { counterOverflow, notACounter, safeIntegerRange } from "../key-value-table.ts";
import { storeClosed, storeTimeout } from "../store.ts";
import { KeyEvents } from "./key-events.ts";
import { type RedisCall, RedisLink } from "./redis-link.ts";
import { parseRedisUrl, type RedisPlace } from "./redis-url.ts";
import * as scripts from "./scripts.ts";

type Argument = string | Uint8Array;

const empty = new Uint8Array(0);
/** How long the last command to the server may take. */
const leaveMs = 2_000;

/**
 * What one handle of a RedisStore does on the server: commands, and waits for keys. It owns the bytes that it is given,
 * which are sent after the call has returned.
 */
export class RedisSession {
  readonly prefix: string;
  readonly #link: RedisLink;
  readonly #events: KeyEvents;
  readonly #names: readonly string[];
  readonly #channelStart: string;
  readonly #waits = new Set<(error: unknown) => void>();
  #localAddress: string | undefined;

  static async connect(
    url: string,
    options: { readonly prefix?: string; readonly tls?: Bun.TLSOptions },
    call: RedisCall,
  ): Promise<RedisSession> {
    const place = parseRedisUrl(url);
    const prefix = options.prefix ?? place.prefix ?? "c10d";
    if (typeof prefix !== "string" || prefix === "") {
      throw new InvalidArgumentError("RedisStore: prefix must be a non-empty string", { argument: "prefix" });
    }
    const session = new RedisSession(place, options.tls, prefix);
    try {
      await session.#link.connect(call);
      await session.#findLocalAddress(call);
      return session;
    } catch (error) {
      session.#link.close();
      throw error;
    }
  }

  private constructor(place: RedisPlace, tls: Bun.TLSOptions | undefined, prefix: string) {
    this.prefix = prefix;
    this.#link = new RedisLink(place, tls, (error) => this.#failWaits(error));
    this.#names = ["values", "queues", "closed"].map((name) => `${prefix}:${name}`);
    this.#channelStart = `${prefix}:key:`;
    this.#events = new KeyEvents(place, tls, this.#channelStart);
  }

  get localAddress(): string | undefined {
    return this.#localAddress;
  }

  async set(call: RedisCall, keys: readonly string[], values: readonly Uint8Array[]): Promise<void> {
    await this.#eval(
      call,
      scripts.setScript,
      keys.flatMap((key, i) => [key, values[i] ?? empty]),
    );
  }

  /** The values of the call's keys, if all exist. */
  async get(call: RedisCall): Promise<Uint8Array[] | undefined> {
    const reply = await this.#eval(call, scripts.getScript, call.keys);
    return Array.isArray(reply) ? reply.map(scripts.latinBytes) : undefined;
  }

  /** Those of the call's keys that do not exist. */
  async missing(call: RedisCall): Promise<string[]> {
    const reply = await this.#eval(call, scripts.missingScript, call.keys);
    return Array.isArray(reply) ? reply.map((place) => call.keys[Number(place)] ?? "") : [];
  }

  async add(call: RedisCall, key: string, amount: number): Promise<number> {
    const reply = await this.#eval(call, scripts.addScript, [key, String(amount)]);
    if (reply === scripts.addRefusal.notACounter) throw notACounter(key);
    if (reply === scripts.addRefusal.overflow) throw counterOverflow(key, safeIntegerRange.name);
    return Number(reply);
  }

  async compareSet(call: RedisCall, key: string, expected: Uint8Array, desired: Uint8Array): Promise<Uint8Array> {
    const reply = await this.#eval(call, scripts.compareSetScript, [key, expected, desired]);
    if (reply === 1) return desired;
    return reply === 0 ? expected : scripts.latinBytes(reply);
  }

  async append(call: RedisCall, key: string, addition: Uint8Array): Promise<void> {
    await this.#eval(call, scripts.appendScript, [key, addition]);
  }

  async delete(call: RedisCall, key: string): Promise<boolean> {
    return (await this.#send(call, "HDEL", [this.#names[0] ?? "", key.toWellFormed()])) === 1;
  }

  async push(call: RedisCall, key: string, value: Uint8Array): Promise<void> {
    await this.#eval(call, scripts.pushScript, [key, value]);
  }

  async pop(call: RedisCall, key: string): Promise<Uint8Array | undefined> {
    const reply = await this.#eval(call, scripts.popScript, [key]);
    return reply === null ? undefined : scripts.latinBytes(reply);
  }

  async queueLength(call: RedisCall, key: string): Promise<number> {
    return Number(await this.#eval(call, scripts.queueLengthScript, [key]));
  }

  async count(call: RedisCall): Promise<number> {
    return Number(await this.#send(call, "HLEN", [this.#names[0] ?? ""]));
  }

  async keys(call: RedisCall): Promise<string[]> {
    const reply = await this.#send(call, "HKEYS", [this.#names[0] ?? ""]);
    return Array.isArray(reply) ? reply.map(String) : [];
  }

  /** Repeats `attempt` until it returns a value: at once, and each time after one of the call's keys was set. */
  async until<T>(call: RedisCall, attempt: () => Promise<T | undefined>): Promise<T> {
    const found = await attempt();
    if (found !== undefined) return found;
    call.signal?.throwIfAborted();
    if (this.#link.isClosed) throw storeClosed(call.op);
    const end = Promise.withResolvers<never>();
    // It may reject while nothing awaits it.
    end.promise.catch(() => {});
    let changed = Promise.withResolvers<void>();
    const abort = () => end.reject(call.signal?.reason);
    const timer = startTimer(msUntil(call.deadline), () => {
      void this.#timeout(call).then(end.reject);
    });
    call.signal?.addEventListener("abort", abort, { once: true });
    this.#waits.add(end.reject);
    const keys = call.keys.map((key) => key.toWellFormed());
    const { ready, stop } = this.#events.listen(keys, { wake: () => changed.resolve(), fail: end.reject });
    ready.catch(end.reject);
    // The steps have no limit of their own, so that the wait ends by `end`, whose error names what is missing.
    try {
      await Promise.race([ready, end.promise]);
      for (;;) {
        changed = Promise.withResolvers();
        const value = await Promise.race([attempt(), end.promise]);
        if (value !== undefined) return value;
        await Promise.race([changed.promise, end.promise]);
      }
    } finally {
      stop();
      timer[Symbol.dispose]();
      call.signal?.removeEventListener("abort", abort);
      this.#waits.delete(end.reject);
    }
  }

  /** Closes the handle; with a world size, the last one removes everything. */
  async close(worldSize: number | undefined): Promise<void> {
    this.#failWaits(storeClosed("a wait"));
    this.#events.close();
    try {
      if (worldSize === undefined) return;
      const deadline = performance.now() + leaveMs;
      const call = { op: "close", keys: [], limitMs: leaveMs, deadline, signal: undefined };
      await this.#eval(call, scripts.leaveScript, [String(worldSize)]);
    } finally {
      this.#link.close();
    }
  }

  #failWaits(error: unknown): void {
    for (const fail of this.#waits) fail(error);
  }

  #eval(call: RedisCall, script: string, args: readonly Argument[]): Promise<unknown> {
    const own = args.map((arg) => (typeof arg === "string" ? arg.toWellFormed() : arg));
    const names = this.#names;
    return this.#send(call, "EVAL", [script, String(names.length), ...names, this.#channelStart, ...own]);
  }

  #send(call: RedisCall, command: string, args: readonly Argument[]): Promise<unknown> {
    // The client takes bytes too, though its types do not say so.
    return this.#link.run<unknown>(call, (client) => client.send(command, args as string[]));
  }

  async #timeout(call: RedisCall) {
    const limitMs = Math.min(call.limitMs, 1_000);
    const brief = { ...call, limitMs, deadline: performance.now() + limitMs, signal: undefined };
    const missing = call.op === "queuePop" ? call.keys : await this.missing(brief).catch(() => call.keys);
    return storeTimeout(call.op, missing.length > 0 ? missing : call.keys, call.limitMs);
  }

  /** The server knows the address of this client; not every user may ask for it. */
  async #findLocalAddress(call: RedisCall): Promise<void> {
    const info = await this.#send(call, "CLIENT", ["INFO"]).catch(() => "");
    const [, address = "", port = "0"] = /\baddr=(\S*):(\d+)/.exec(String(info)) ?? [];
    if (port !== "0") this.#localAddress = address.replace(/^\[(.*)\]$/, "$1");
  }
}
