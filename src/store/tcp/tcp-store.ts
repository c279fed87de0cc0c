import { DistStoreError, DistTimeoutError, InvalidArgumentError, type Timeout, timeoutMs } from "../../errors/index.ts";
import { checkAmount, checkPairs, checkPort, checkWorldSize } from "../arguments.ts";
import { pause } from "../deadline.ts";
import { counterOverflow, notACounter, safeIntegerRange } from "../key-value-table.ts";
import {
  type QueuePopOptions,
  queueEmpty,
  Store,
  type StoreCallOptions,
  type StoreValue,
  storeTimeout,
} from "../store.ts";
import { CallCounters, type ClientCounter } from "./call-counters.ts";
import { callLimit, cancelGraceMs, remaining, settle, type WaitEnd } from "./call-limit.ts";
import type { CallLimit, Connection } from "./connection.ts";
import { dial } from "./dial.ts";
import { hostPort } from "./host-address.ts";
import type { OutputBuffer } from "./output-buffer.ts";
import { addFailure, checkReply, joinKey, QueryType, wireKey } from "./protocol.ts";
import { bytesReader, constantReader, manyReader, type ReplyReader, readI64, readU8, thenReader } from "./reply.ts";
import { leaseServer, type ServerLease } from "./server-lease.ts";
import { chosenSecret, StoreSecret } from "./store-secret.ts";
import { WaitConnections } from "./wait-connections.ts";
import { checkedKey, checkedKeys, checkedValue } from "./wire-arguments.ts";

export interface TCPStoreOptions {
  /** Host of the server. The master listens on exactly that interface. */
  readonly host: string;
  /** Port of the server; 0, on the master only, takes a free one (see {@link TCPStore.port}). */
  readonly port: number;
  /** How many clients will join. Without it nobody is counted or waited for. */
  readonly worldSize?: number;
  /** Whether to host the server in this process, in a Worker of its own. Default false. */
  readonly isMaster?: boolean;
  /** Limit of connecting, and of all calls that give none. Default 300 s. */
  readonly timeout?: Timeout;
  /** Whether the master waits until `worldSize` clients have joined. Default true. */
  readonly waitForWorkers?: boolean;
  /** Whether masters of this process share one server per port. Default false. */
  readonly multiTenant?: boolean;
  /** A listening socket for the master's server to adopt. */
  readonly masterListenFd?: number;
  /**
   * What client and server prove to each other to know before anything else; null for PyTorch's open protocol. Default:
   * `C10D_STORE_SECRET`, and the open protocol without it or under torchrun. docs/security.md tells what it protects.
   */
  readonly secret?: string | null;
  /** Gives up connecting. */
  readonly signal?: AbortSignal;
}

export interface TCPStoreCloseOptions {
  /** On the hosting process: how long to wait until all clients have left before the server ends. Default: not at all. */
  readonly drainTimeout?: Timeout;
}

/**
 * A store on a TCP server, in PyTorch's protocol: servers and clients of both can be mixed, where no secret is set.
 *
 * Calls are pipelined on one connection, and one that has to wait never holds up another. An idle store does not hold
 * the process. When the connection is lost, every call rejects with `DistNetworkError`, later ones too: connect again.
 *
 * c10d: `torch.distributed.TCPStore`.
 */
export class TCPStore extends Store {
  readonly host: string;
  readonly port: number;
  readonly #main: Connection;
  readonly #waits: WaitConnections;
  readonly #counters = new CallCounters();
  readonly #server: ServerLease | undefined;

  /**
   * Connects, and on the master hosts the server and waits for the workers. Under a launcher that hosts the store
   * (`TORCHELASTIC_USE_AGENT_STORE`, and `MASTER_PORT` is this port) the master is a client like the others.
   * @throws DistTimeoutError `CONNECT_TIMEOUT`; DistNetworkError `PORT_IN_USE`, and `SECRET_REQUIRED`,
   * `SECRET_MISMATCH`, `SECRET_UNSUPPORTED` when server and client do not have the same secret; InvalidArgumentError.
   */
  static async connect(options: TCPStoreOptions): Promise<TCPStore> {
    const limit = callLimit(options, timeoutMs(options.timeout, 300_000));
    const worldSize = checkOptions(options);
    const secret = chosenSecret(options.secret);
    const server = await hostServer(options, secret);
    let main: Connection | undefined;
    try {
      const proof = secret === null ? undefined : new StoreSecret(secret);
      main = await dial(dialHost(options.host, server), server?.port ?? options.port, limit, proof);
      const store = new TCPStore(options.host, main, server);
      store.setTimeout(limit.ms);
      if (worldSize !== undefined && options.waitForWorkers !== false) {
        using _call = store.#counters.time("waitForWorkers");
        await store.#join(worldSize, limit);
      }
      return store;
    } catch (error) {
      main?.close();
      await server?.release(0);
      throw error;
    }
  }

  private constructor(host: string, main: Connection, server: ServerLease | undefined) {
    super();
    this.host = host;
    this.port = main.endpoint.port;
    this.#main = main;
    this.#waits = new WaitConnections(main.endpoint);
    this.#server = server;
  }

  override get localAddress(): string | undefined {
    return this.#main.localAddress;
  }

  /** Whether this store's server runs in this process. */
  get isHost(): boolean {
    return this.#server !== undefined;
  }

  /**
   * Counts this client among the workers; on the hosting process also waits until there are `worldSize`.
   * {@link connect} does it unless told not to.
   * @throws DistTimeoutError `CONNECT_TIMEOUT` telling how many have joined.
   */
  async waitForWorkers(worldSize: number, options?: StoreCallOptions): Promise<void> {
    using _call = this.#counters.time("waitForWorkers");
    checkWorldSize("waitForWorkers", worldSize);
    await this.#join(worldSize, this.#limit(options));
  }

  async set(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    using _call = this.#counters.time("set");
    const wire = checkedKey("set", key);
    const bytes = checkedValue("set", key, value);
    await this.#main.post(
      "set",
      [key],
      (output) => writePair(output, QueryType.SET, wire, bytes),
      this.#limit(options),
    );
  }

  async get(key: string, options?: StoreCallOptions): Promise<Uint8Array> {
    using _call = this.#counters.time("get");
    const wire = checkedKey("get", key);
    const [value = new Uint8Array(0)] = await this.#getAll("get", [key], [wire], QueryType.GET, options);
    return value;
  }

  async add(key: string, amount: number, options?: StoreCallOptions): Promise<number> {
    using _call = this.#counters.time("add");
    const wire = checkedKey("add", key);
    checkAmount(key, amount);
    return await this.#addRaw(wire, amount, this.#limit(options), key);
  }

  async check(keys: readonly string[], options?: StoreCallOptions): Promise<boolean> {
    using _call = this.#counters.time("check");
    return await this.#check("check", keys, checkedKeys("check", keys), this.#limit(options));
  }

  async compareSet(
    key: string,
    expected: StoreValue,
    desired: StoreValue,
    options?: StoreCallOptions,
  ): Promise<Uint8Array> {
    using _call = this.#counters.time("compareSet");
    const wire = checkedKey("compareSet", key);
    const before = checkedValue("compareSet", key, expected);
    const after = checkedValue("compareSet", key, desired);
    const write = (output: OutputBuffer) => {
      output.u8(QueryType.COMPARE_SET);
      output.text(wire);
      output.copy(before);
      output.copy(after);
    };
    return await this.#main.request("compareSet", [key], write, bytesReader(), this.#limit(options));
  }

  async deleteKey(key: string, options?: StoreCallOptions): Promise<boolean> {
    using _call = this.#counters.time("deleteKey");
    const wire = checkedKey("deleteKey", key);
    const deleted = await this.#ask("deleteKey", key, QueryType.DELETE_KEY, wire, readI64, this.#limit(options));
    return deleted > 0n;
  }

  override async wait(keys: readonly string[], options?: StoreCallOptions): Promise<void> {
    using _call = this.#counters.time("wait");
    await this.#waitFor("wait", keys, checkedKeys("wait", keys), this.#limit(options));
  }

  override async numKeys(options?: StoreCallOptions): Promise<number> {
    using _call = this.#counters.time("numKeys");
    const write = (output: OutputBuffer) => output.u8(QueryType.GETNUMKEYS);
    return Number(await this.#main.request("numKeys", [], write, readI64, this.#limit(options)));
  }

  override hasExtendedApi(): boolean {
    return true;
  }

  override async append(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    using _call = this.#counters.time("append");
    const wire = checkedKey("append", key);
    const bytes = checkedValue("append", key, value);
    const write = (output: OutputBuffer) => writePair(output, QueryType.APPEND, wire, bytes);
    await this.#main.post("append", [key], write, this.#limit(options));
  }

  override async multiGet(keys: readonly string[], options?: StoreCallOptions): Promise<Uint8Array[]> {
    using _call = this.#counters.time("multiGet");
    const wire = checkedKeys("multiGet", keys);
    return keys.length === 0 ? [] : await this.#getAll("multiGet", keys, wire, QueryType.MULTI_GET, options);
  }

  override async multiSet(
    keys: readonly string[],
    values: readonly StoreValue[],
    options?: StoreCallOptions,
  ): Promise<void> {
    using _call = this.#counters.time("multiSet");
    checkPairs(keys, values);
    const wire = checkedKeys("multiSet", keys);
    const bytes = keys.map((key, i) => checkedValue("multiSet", key, values[i] ?? ""));
    const write = (output: OutputBuffer) => {
      output.u8(QueryType.MULTI_SET);
      output.u64(wire.length);
      for (const [i, value] of bytes.entries()) {
        output.text(wire[i] ?? "");
        output.copy(value);
      }
    };
    await this.#main.post("multiSet", keys, write, this.#limit(options));
  }

  override async queuePush(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    using _call = this.#counters.time("queuePush");
    const wire = checkedKey("queuePush", key);
    const bytes = checkedValue("queuePush", key, value);
    const write = (output: OutputBuffer) => writePair(output, QueryType.QUEUE_PUSH, wire, bytes);
    await this.#main.post("queuePush", [key], write, this.#limit(options));
  }

  override async queuePop(key: string, options: QueuePopOptions = {}): Promise<Uint8Array> {
    using _call = this.#counters.time("queuePop");
    const wire = checkedKey("queuePop", key);
    const limit = this.#limit(options);
    for (let delay = 0; ; delay = Math.min(delay * 2 + 1, 50)) {
      const reader = thenReader<bigint, Uint8Array | undefined>(readI64, (length) =>
        length > 0n ? bytesReader() : constantReader(undefined),
      );
      const element = await this.#ask("queuePop", key, QueryType.QUEUE_POP, wire, reader, limit);
      if (element !== undefined) return element;
      if (options.block === false) throw queueEmpty(key);
      if (performance.now() >= limit.deadline) throw this.#timeout("queuePop", [key], limit.ms);
      // A plain key of the same name ends the wait at once, so do not ask again at full speed.
      if (delay > 0) await pause(delay, limit.signal);
      await this.#waitFor("queuePop", [key], [wire], limit);
    }
  }

  override async queueLen(key: string, options?: StoreCallOptions): Promise<number> {
    using _call = this.#counters.time("queueLen");
    const wire = checkedKey("queueLen", key);
    return Number(await this.#ask("queueLen", key, QueryType.QUEUE_LEN, wire, readI64, this.#limit(options)));
  }

  override async listKeys(options?: StoreCallOptions): Promise<string[]> {
    using _call = this.#counters.time("listKeys");
    const reader = thenReader(readI64, (count) => manyReader(Number(count)));
    const write = (output: OutputBuffer) => output.u8(QueryType.LIST_KEYS);
    const raw = await this.#main.request("listKeys", [], write, reader, this.#limit(options));
    const decoder = new TextDecoder();
    const keys = raw.map((bytes) => decoder.decode(bytes));
    return keys.filter((key) => key.startsWith("/")).map((key) => key.slice(1));
  }

  override async barrier(key: string, worldSize: number, options?: StoreCallOptions): Promise<void> {
    using _call = this.#counters.time("barrier");
    checkWorldSize("barrier", worldSize);
    const wire = checkedKey("barrier", key);
    const limit = this.#limit(options);
    const write = (output: OutputBuffer) => {
      output.u8(QueryType.BARRIER);
      output.text(wire);
      output.i64(BigInt(worldSize));
    };
    // An arrival counts as often as it is sent, so it must go where no other call will cancel it.
    const connection = await this.#waits.acquire(limit);
    if (connection === undefined) return super.barrier(key, worldSize, remaining(limit));
    try {
      const ended = await settle(connection.wait("barrier", [key], write), limit);
      if (ended !== "ready") throw this.#timeout("barrier", [key], limit.ms, ended);
    } finally {
      this.#waits.release(connection);
    }
  }

  /**
   * Count, mean and variance of the times of this client's calls, by op.
   *
   * c10d: `TCPStore.collect_client_counters`.
   */
  collectClientCounters(): Record<string, ClientCounter> {
    return this.#counters.collect();
  }

  override async clone(): Promise<TCPStore> {
    const { endpoint, failure } = this.#main;
    if (failure) throw failure;
    const twin = new TCPStore(
      this.host,
      await dial(endpoint.address, endpoint.port, callLimit({}, this.timeout), endpoint.secret),
      undefined,
    );
    twin.setTimeout(this.timeout);
    return twin;
  }

  override async close(options: TCPStoreCloseOptions = {}): Promise<void> {
    const drainMs = options.drainTimeout === undefined ? 0 : timeoutMs(options.drainTimeout, 0);
    this.#waits.close();
    this.#main.close();
    await this.#server?.release(drainMs);
  }

  async #join(worldSize: number, limit: CallLimit): Promise<void> {
    let joined = await this.#addRaw(joinKey, 1, limit);
    if (!this.isHost) return;
    for (let delay = 1; joined < worldSize; delay = Math.min(delay * 1.5, 10)) {
      if (performance.now() >= limit.deadline) throw this.#tooFew(joined, worldSize, limit.ms);
      await pause(delay, limit.signal);
      const count = await this.#main.request(
        "waitForWorkers",
        [joinKey],
        (output) => {
          output.u8(QueryType.GET);
          output.text(joinKey);
        },
        bytesReader(),
        limit,
      );
      joined = Number(new TextDecoder().decode(count));
    }
  }

  #limit(options: StoreCallOptions | undefined): CallLimit {
    return callLimit(options ?? {}, timeoutMs(options?.timeout, this.timeout));
  }

  #ask<T>(op: string, key: string, type: QueryType, wire: string, reader: ReplyReader<T>, limit: CallLimit) {
    const write = (output: OutputBuffer) => {
      output.u8(type);
      output.text(wire);
    };
    return this.#main.request(op, [key], write, reader, limit);
  }

  #check(op: string, keys: readonly string[], wire: readonly string[], limit: CallLimit): Promise<boolean> {
    const reader = thenReader(readU8, (byte) => constantReader(byte === checkReply.READY));
    return this.#main.request(op, keys, (output) => writeKeys(output, QueryType.CHECK, wire), reader, limit);
  }

  async #addRaw(wire: string, amount: number, limit: CallLimit, key = wire): Promise<number> {
    const write = (output: OutputBuffer) => {
      output.u8(QueryType.ADD);
      output.text(wire);
      output.i64(BigInt(amount));
    };
    const sum = await this.#main.request("add", [key], write, readI64, limit);
    if (sum >= safeIntegerRange.min && sum <= safeIntegerRange.max) return Number(sum);
    if (this.#main.ownDialect && sum === addFailure.notACounter) throw notACounter(key);
    if (this.#main.ownDialect && sum === addFailure.overflow) throw counterOverflow(key, safeIntegerRange.name);
    throw new DistStoreError(`store add: key ${key} is now ${sum}, which is more than a number holds exactly.`, {
      code: "COUNTER_OVERFLOW",
      op: "add",
      keys: [key],
    });
  }

  /** The values of all keys, once they are there. */
  async #getAll(
    op: string,
    keys: readonly string[],
    wire: readonly string[],
    type: typeof QueryType.GET | typeof QueryType.MULTI_GET,
    options: StoreCallOptions | undefined,
  ): Promise<Uint8Array[]> {
    const limit = this.#limit(options);
    const write = (output: OutputBuffer) => {
      if (type === QueryType.MULTI_GET) return writeKeys(output, type, wire);
      output.u8(type);
      output.text(wire[0] ?? "");
    };
    if (!this.#main.ownDialect) {
      // PyTorch's legacy server hangs up on a GET of an absent key: look first.
      if (this.#main.idle || !(await this.#check(op, keys, wire, limit))) await this.#waitFor(op, keys, wire, limit);
      return this.#main.request(op, keys, write, manyReader(wire.length), limit);
    }
    for (;;) {
      const reader = thenReader(readU8, (byte) =>
        thenReader(manyReader(wire.length), (values) => constantReader(byte === checkReply.READY ? values : undefined)),
      );
      const values = await this.#main.request(
        op,
        keys,
        (output) => {
          writeKeys(output, QueryType.CHECK, wire);
          write(output);
        },
        reader,
        limit,
      );
      if (values !== undefined) return values;
      await this.#waitFor(op, keys, wire, limit);
    }
  }

  /** Resolves when all keys are there: on the main connection while nothing else wants it, else on one of its own. */
  async #waitFor(op: string, keys: readonly string[], wire: readonly string[], limit: CallLimit): Promise<void> {
    limit.signal?.throwIfAborted();
    const write = (output: OutputBuffer) => writeKeys(output, QueryType.WAIT, wire);
    if (this.#main.idle) {
      const ended = await settle(this.#main.wait(op, keys, write), limit);
      if (ended === "ready") return;
      if (ended !== "cancelled") return this.#giveUp(op, keys, limit, ended);
    } else if (await this.#check(op, keys, wire, limit)) {
      return;
    }
    const connection = await this.#waits.acquire(limit);
    if (connection === undefined) return this.#poll(op, keys, wire, limit);
    try {
      const ended = await settle(connection.wait(op, keys, write), limit);
      if (ended !== "ready") return await this.#giveUp(op, keys, limit, ended);
    } finally {
      this.#waits.release(connection);
    }
  }

  async #poll(op: string, keys: readonly string[], wire: readonly string[], limit: CallLimit): Promise<void> {
    for (let delay = 1; !(await this.#check(op, keys, wire, limit)); delay = Math.min(delay * 2, 50)) {
      const left = limit.deadline - performance.now();
      if (left <= delay) return this.#giveUp(op, keys, limit, "expired");
      await pause(delay, limit.signal);
    }
  }

  /** Ends a wait that ran out of time: with an error, unless the keys came at the last moment. */
  async #giveUp(op: string, keys: readonly string[], limit: CallLimit, ended: WaitEnd): Promise<void> {
    const distinct = [...new Set(keys)];
    if (distinct.length === 1 || ended === "silent") throw this.#timeout(op, distinct, limit.ms, ended);
    const brief = callLimit({}, cancelGraceMs);
    const present = await Promise.all(
      distinct.map((key) => this.#check(op, [key], [wireKey(key)], brief).catch(() => false)),
    );
    const missing = distinct.filter((_, i) => !present[i]);
    if (missing.length > 0) throw this.#timeout(op, missing, limit.ms, ended);
  }

  #timeout(op: string, keys: readonly string[], limitMs: number, ended: WaitEnd = "expired"): DistTimeoutError {
    const name = hostPort(this.host, this.port);
    if (ended !== "silent") return storeTimeout(op, keys, limitMs, ` (server ${name})`);
    return new DistTimeoutError(
      `store ${op} (key ${keys.slice(0, 4).join(", ")}${keys.length > 4 ? ", …" : ""}): the server at ${name} did not answer within ${Math.round(limitMs)} ms. ` +
        "Is the process that hosts it stopped, or the network down?",
      { code: "STORE_TIMEOUT", op, keys: [...keys], timeoutMs: limitMs, host: this.host, port: this.port },
    );
  }

  #tooFew(joined: number, worldSize: number, limitMs: number): DistTimeoutError {
    return new DistTimeoutError(
      `Timed out after ${Number((limitMs / 1000).toFixed(1))} seconds waiting for clients. ${joined}/${worldSize} clients joined. ` +
        `Check that all ranks were started, with ${hostPort(this.host, this.port)} as their store.`,
      { code: "CONNECT_TIMEOUT", op: "connect", timeoutMs: limitMs, host: this.host, port: this.port },
    );
  }
}

function writePair(output: OutputBuffer, type: QueryType, wire: string, value: Uint8Array): void {
  output.u8(type);
  output.text(wire);
  output.copy(value);
}

function writeKeys(output: OutputBuffer, type: QueryType, wire: readonly string[]): void {
  output.u8(type);
  output.u64(wire.length);
  for (const key of wire) output.text(key);
}

function checkOptions(options: TCPStoreOptions): number | undefined {
  const { host, port, worldSize, isMaster } = options;
  if (typeof host !== "string" || host === "") {
    throw new InvalidArgumentError("TCPStore: host must be a name or an address", { argument: "host" });
  }
  checkPort(port);
  if (isMaster !== undefined && typeof isMaster !== "boolean") {
    throw new InvalidArgumentError("TCPStore: isMaster must be a boolean", { argument: "isMaster" });
  }
  if (port === 0 && isMaster !== true) {
    throw new InvalidArgumentError("TCPStore: port 0 is for the master; a client needs the port it listens on", {
      argument: "port",
    });
  }
  if (worldSize === 0) {
    throw new InvalidArgumentError("TCPStore world size cannot be 0", { argument: "worldSize" });
  }
  // As in c10d, a negative world size means that there is none.
  if (worldSize === undefined || worldSize < 0) return undefined;
  checkWorldSize("connect", worldSize);
  return worldSize;
}

function hostServer(options: TCPStoreOptions, secret: string | null): Promise<ServerLease | undefined> {
  const { host, port, masterListenFd } = options;
  if (options.isMaster !== true || (masterListenFd === undefined && isAgentStore(port))) {
    return Promise.resolve(undefined);
  }
  const server = { host, port, secret, ...(masterListenFd !== undefined && { listenFd: masterListenFd }) };
  return leaseServer(server, options.multiTenant ?? false);
}

function isAgentStore(port: number): boolean {
  const { TORCHELASTIC_USE_AGENT_STORE, MASTER_PORT } = process.env;
  return TORCHELASTIC_USE_AGENT_STORE?.toLowerCase() === "true" && Number(MASTER_PORT) === port && port !== 0;
}

/** Where the client of a master connects to: its own server may be reachable under no name yet. */
function dialHost(host: string, server: ServerLease | undefined): string {
  if (server === undefined) return host;
  if (server.address === "0.0.0.0") return "127.0.0.1";
  return server.address === "::" ? "::1" : server.address;
}
