import { timeoutMs } from "../../../time/index.ts";
import { checkAmount, checkMade, checkPairs, checkWorldSize } from "../../arguments.ts";
import { type QueuePopOptions, Store, type StoreCallOptions, type StoreValue } from "../../store.ts";
import type { ServerLease } from "../server/server-lease.ts";
import { chosenSecret, StoreSecret } from "../store-secret.ts";
import { QueryType } from "../wire/protocol.ts";
import { constantReader, manyReader, readI64, thenReader } from "../wire/reply.ts";
import { checkWireKey, checkWireKeys, wireValue } from "../wire/wire-arguments.ts";
import type { CallLimit, Request } from "./call.ts";
import { CallCounters, type ClientCounter } from "./call-counters.ts";
import { callLimit } from "./call-limit.ts";
import type { Connection } from "./connection.ts";
import { dial } from "./dial.ts";
import { join } from "./join.ts";
import { KeyReads } from "./key-reads.ts";
import { KeyWaits } from "./key-waits.ts";
import { queuePop } from "./queue-pop.ts";
import {
  AddRequest,
  checking,
  comparing,
  KeyRequest,
  plain,
  settingAll,
  WriteRequest,
  type WriteType,
} from "./requests.ts";
import { ServerLink } from "./server-link.ts";
import {
  checkOptions,
  dialHost,
  hostServer,
  type TCPStoreCloseOptions,
  type TCPStoreOptions,
} from "./tcp-store-options.ts";

/**
 * A store on a TCP server, in PyTorch's protocol: servers and clients of both can be mixed, where no secret is set.
 *
 * Calls are pipelined on one connection, and one that has to wait never delays another. An idle store does not keep the
 * process alive.
 *
 * A connection that breaks is re-established, to the same server only. Calls that change nothing are then sent again; a
 * write in flight rejects with `DistNetworkError` `OUTCOME_UNKNOWN`, as does the next call after a write that was sent
 * but perhaps not received. When the server has exited or was restarted, every call rejects (`CONNECTION_LOST`,
 * `SERVER_RESTARTED`). docs/stores.md has the details.
 *
 * c10d: `torch.distributed.TCPStore`.
 */
export class TCPStore extends Store {
  readonly host: string;
  readonly port: number;
  readonly #link: ServerLink;
  readonly #waits: KeyWaits;
  readonly #reads: KeyReads;
  readonly #counters = new CallCounters();
  readonly #server: ServerLease | undefined;

  /**
   * Connects, and on the master hosts the server and waits for the workers. Under a launcher that hosts the store
   * (`TORCHELASTIC_USE_AGENT_STORE`, and `MASTER_PORT` is this port) the master is a client like the others.
   * @throws DistTimeoutError `CONNECT_TIMEOUT`; DistNetworkError `PORT_IN_USE`, and `SECRET_REQUIRED`,
   * `SECRET_MISMATCH`, `SECRET_UNSUPPORTED` when server and client do not have the same secret; InvalidArgumentError.
   */
  static async connect(options: TCPStoreOptions): Promise<TCPStore> {
    const worldSize = checkOptions(options);
    const limit = callLimit(options, timeoutMs(options.timeout, 300_000));
    const secret = chosenSecret(options.secret);
    const server = await hostServer(options, secret, limit);
    let main: Connection | undefined;
    try {
      const proof = secret === null ? undefined : new StoreSecret(secret);
      main = await dial(dialHost(options.host, server), server?.port ?? options.port, limit, proof);
      const store = new TCPStore(options.host, main, server);
      store.setTimeout(limit.ms);
      if (worldSize !== undefined && options.waitForWorkers !== false) {
        using _call = store.#counters.time("waitForWorkers");
        await join(store.#link, store.isHost, worldSize, limit);
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
    checkMade(main, "TCPStore", "TCPStore.connect({ host, port })");
    this.host = host;
    this.port = main.endpoint.port;
    this.#link = new ServerLink(main);
    this.#waits = new KeyWaits(this.#link);
    this.#reads = new KeyReads(this.#link, this.#waits);
    this.#server = server;
  }

  override get localAddress(): string | undefined {
    return this.#link.main.localAddress;
  }

  /** Address and port of this end of the connection, as the server sees it if there is no NAT in between. */
  get localEndpoint(): string | undefined {
    return this.#link.main.localEndpoint;
  }

  /** Differs from that of a server that is started later at the same address; undefined for PyTorch's servers. */
  get serverIdentity(): string | undefined {
    return this.#link.main.serverIdentity;
  }

  /** Whether this store's server runs in this process. */
  get isHost(): boolean {
    return this.#server !== undefined;
  }

  /**
   * Counts this client among the workers; on the hosting process also waits until there are `worldSize`.
   * {@link connect} calls it unless `waitForWorkers` is false.
   * @throws DistTimeoutError `CONNECT_TIMEOUT` with the number of clients that joined.
   */
  async waitForWorkers(worldSize: number, options?: StoreCallOptions): Promise<void> {
    using _call = this.#counters.time("waitForWorkers");
    checkWorldSize("waitForWorkers", worldSize);
    await join(this.#link, this.isHost, worldSize, this.#limit(options));
  }

  set(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    return this.#write("set", QueryType.SET, key, value, options);
  }

  get(key: string, options?: StoreCallOptions): Promise<Uint8Array> {
    return this.#call("get", options, (limit) => {
      checkWireKey("get", key);
      return this.#reads.one(key, limit);
    });
  }

  add(key: string, amount: number, options?: StoreCallOptions): Promise<number> {
    return this.#call("add", options, () => {
      checkWireKey("add", key);
      checkAmount(key, amount);
      return new AddRequest(key, amount, this.#link.main.ownDialect);
    });
  }

  check(keys: readonly string[], options?: StoreCallOptions): Promise<boolean> {
    return this.#call("check", options, () => {
      checkWireKeys("check", keys);
      return checking("check", [...keys]);
    });
  }

  compareSet(key: string, expected: StoreValue, desired: StoreValue, options?: StoreCallOptions): Promise<Uint8Array> {
    return this.#call("compareSet", options, () => {
      checkWireKey("compareSet", key);
      return comparing(key, wireValue("compareSet", key, expected), wireValue("compareSet", key, desired));
    });
  }

  deleteKey(key: string, options?: StoreCallOptions): Promise<boolean> {
    return this.#call("deleteKey", options, () => {
      checkWireKey("deleteKey", key);
      const reply = () => thenReader(readI64, (deleted) => constantReader(deleted > 0));
      return new KeyRequest("deleteKey", QueryType.DELETE_KEY, key, false, reply);
    });
  }

  override async wait(keys: readonly string[], options?: StoreCallOptions): Promise<void> {
    using _call = this.#counters.time("wait");
    checkWireKeys("wait", keys);
    await this.#waits.until("wait", [...keys], this.#limit(options));
  }

  override numKeys(options?: StoreCallOptions): Promise<number> {
    const reply = () => thenReader(readI64, (count) => constantReader(Number(count)));
    return this.#call("numKeys", options, () => plain("numKeys", QueryType.GETNUMKEYS, reply));
  }

  override hasExtendedApi(): boolean {
    return true;
  }

  override append(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    return this.#write("append", QueryType.APPEND, key, value, options);
  }

  override multiGet(keys: readonly string[], options?: StoreCallOptions): Promise<Uint8Array[]> {
    return this.#call("multiGet", options, (limit) => {
      checkWireKeys("multiGet", keys);
      return this.#reads.many([...keys], limit);
    });
  }

  override multiSet(keys: readonly string[], values: readonly StoreValue[], options?: StoreCallOptions): Promise<void> {
    return this.#call("multiSet", options, () => {
      checkPairs(keys, values);
      checkWireKeys("multiSet", keys);
      const checked = values.map((value, i) => wireValue("multiSet", keys[i] ?? "", value));
      return settingAll([...keys], checked);
    });
  }

  override queuePush(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    return this.#write("queuePush", QueryType.QUEUE_PUSH, key, value, options);
  }

  override async queuePop(key: string, options: QueuePopOptions = {}): Promise<Uint8Array> {
    using _call = this.#counters.time("queuePop");
    checkWireKey("queuePop", key);
    return await queuePop(this.#link, this.#waits, key, options.block ?? true, this.#limit(options));
  }

  override queueLen(key: string, options?: StoreCallOptions): Promise<number> {
    return this.#call("queueLen", options, () => {
      checkWireKey("queueLen", key);
      const reply = () => thenReader(readI64, (length) => constantReader(Number(length)));
      return new KeyRequest("queueLen", QueryType.QUEUE_LEN, key, true, reply);
    });
  }

  override async listKeys(options?: StoreCallOptions): Promise<string[]> {
    using _call = this.#counters.time("listKeys");
    const reply = () => thenReader(readI64, (count) => manyReader(Number(count)));
    const raw = await this.#link.request(plain("listKeys", QueryType.LIST_KEYS, reply), this.#limit(options));
    const decoder = new TextDecoder();
    const keys = raw.map((bytes) => decoder.decode(bytes));
    return keys.filter((key) => key.startsWith("/")).map((key) => key.slice(1));
  }

  override async barrier(key: string, worldSize: number, options?: StoreCallOptions): Promise<void> {
    using _call = this.#counters.time("barrier");
    checkWorldSize("barrier", worldSize);
    checkWireKey("barrier", key);
    await this.#waits.barrier(key, worldSize, this.#limit(options));
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
    const limit = callLimit({}, this.timeout);
    const twin = new TCPStore(this.host, await this.#link.openAnother("clone", [], limit), undefined);
    twin.#link.joinedAs = this.#link.joinedAs;
    twin.setTimeout(this.timeout);
    return twin;
  }

  override async close(options: TCPStoreCloseOptions = {}): Promise<void> {
    const drainMs = options.drainTimeout === undefined ? 0 : timeoutMs(options.drainTimeout, 0);
    this.#waits.close();
    this.#link.close();
    await this.#server?.release(drainMs);
  }

  #limit(options: StoreCallOptions | undefined): CallLimit {
    return callLimit(options ?? {}, timeoutMs(options?.timeout, this.timeout));
  }

  /** A call whose time is measured. Invalid arguments reject like every other error. */
  #call<T>(
    op: string,
    options: StoreCallOptions | undefined,
    make: (limit: CallLimit) => Request<T> | Promise<T>,
  ): Promise<T> {
    const timing = this.#counters.of(op);
    const began = performance.now();
    try {
      const limit = this.#limit(options);
      const made = make(limit);
      if (!(made instanceof Promise)) return this.#link.request(made, limit, timing);
      const count = () => timing.add(performance.now() - began);
      made.then(count, count);
      return made;
    } catch (error) {
      timing.add(performance.now() - began);
      return Promise.reject(error);
    }
  }

  #write(
    op: string,
    type: WriteType,
    key: string,
    value: StoreValue,
    options: StoreCallOptions | undefined,
  ): Promise<void> {
    return this.#call(op, options, () => {
      checkWireKey(op, key);
      return new WriteRequest(op, type, key, wireValue(op, key, value));
    });
  }
}
