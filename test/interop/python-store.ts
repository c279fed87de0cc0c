import { fixture } from "./torch.ts";

/** What is exchanged with Python: JSON, and bytes as hexadecimal text. */
type Value = string | number | boolean | null | Uint8Array | readonly Value[] | { readonly [name: string]: Value };

interface Reply {
  readonly id?: number;
  readonly value?: unknown;
  readonly error?: { readonly type: string; readonly message: string };
}

/** A Python exception. */
export class PythonError extends Error {
  override readonly name = "PythonError";
  /** Name of its Python class. */
  readonly type: string;

  constructor(type: string, message: string) {
    super(`${type}: ${message}`);
    this.type = type;
  }
}

export interface PythonStoreOptions {
  readonly port: number;
  readonly isMaster?: boolean;
  readonly worldSize?: number;
  readonly waitForWorkers?: boolean;
  readonly useLibuv?: boolean;
  /** Milliseconds. */
  readonly timeout?: number;
}

/** A Python process that holds any number of PyTorch's TCPStores. */
export class PythonPeer implements AsyncDisposable {
  readonly #process: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #calls = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #started = Promise.withResolvers<void>();
  #lastId = 0;
  #lastStore = 0;

  /** Starts one; loading PyTorch takes some seconds. */
  static async start(python: string): Promise<PythonPeer> {
    const peer = new PythonPeer(python);
    await peer.#started.promise;
    return peer;
  }

  private constructor(python: string) {
    this.#process = Bun.spawn([python, fixture("store_peer.py")], {
      // Its servers and clients log what they refuse; the tests check the exceptions.
      env: { ...process.env, TORCH_CPP_LOG_LEVEL: "FATAL" },
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    });
    void this.#listen();
  }

  /** Opens a store: a client, or with `isMaster` a server and its client. */
  async open(options: PythonStoreOptions): Promise<PythonStore> {
    const store = new PythonStore(this, `store ${++this.#lastStore}`);
    await store.open(options);
    return store;
  }

  call(store: string, op: string, args: readonly Value[]): Promise<unknown> {
    const id = ++this.#lastId;
    const answer = Promise.withResolvers<unknown>();
    this.#calls.set(id, answer);
    this.#process.stdin.write(`${JSON.stringify({ id, store, op, args: encode(args) })}\n`);
    this.#process.stdin.flush();
    return answer.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.stdin.end();
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), 5_000);
    await this.#process.exited;
    clearTimeout(timer);
  }

  async #listen(): Promise<void> {
    let rest = "";
    const decoder = new TextDecoder();
    for await (const chunk of this.#process.stdout) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.#take(JSON.parse(line) as Reply);
    }
    const ended = new Error("the Python process has ended");
    this.#started.reject(ended);
    for (const call of this.#calls.values()) call.reject(ended);
  }

  #take(reply: Reply): void {
    if (reply.id === undefined) {
      this.#started.resolve();
      return;
    }
    const call = this.#calls.get(reply.id);
    this.#calls.delete(reply.id);
    if (reply.error) call?.reject(new PythonError(reply.error.type, reply.error.message));
    else call?.resolve(decode(reply.value));
  }
}

/** One of PyTorch's TCPStores, with our method names. */
export class PythonStore {
  readonly #peer: PythonPeer;
  readonly #name: string;
  port = 0;

  constructor(peer: PythonPeer, name: string) {
    this.#peer = peer;
    this.#name = name;
  }

  async open(options: PythonStoreOptions): Promise<void> {
    const { port, isMaster = false, worldSize = null, waitForWorkers = true, useLibuv = true, timeout } = options;
    this.port = await this.#call<number>("open", {
      port,
      is_master: isMaster,
      world_size: worldSize,
      wait_for_workers: waitForWorkers,
      use_libuv: useLibuv,
      timeout: timeout ?? 10_000,
    });
  }

  close = (): Promise<void> => this.#call("close");
  setTimeout = (ms: number): Promise<void> => this.#call("set_timeout", ms);
  set = (key: string, value: string | Uint8Array): Promise<void> => this.#call("set", key, value);
  get = (key: string): Promise<Uint8Array> => this.#call("get", key);
  add = (key: string, amount: number): Promise<number> => this.#call("add", key, amount);
  check = (keys: readonly string[]): Promise<boolean> => this.#call("check", keys);
  compareSet = (key: string, expected: string, desired: string): Promise<Uint8Array> =>
    this.#call("compare_set", key, expected, desired);
  deleteKey = (key: string): Promise<boolean> => this.#call("delete_key", key);
  numKeys = (): Promise<number> => this.#call("num_keys");
  wait = (keys: readonly string[], { timeout = 10_000 } = {}): Promise<void> => this.#call("wait", keys, timeout);
  append = (key: string, value: string): Promise<void> => this.#call("append", key, value);
  multiGet = (keys: readonly string[]): Promise<Uint8Array[]> => this.#call("multi_get", keys);
  multiSet = (keys: readonly string[], values: readonly string[]): Promise<void> =>
    this.#call("multi_set", keys, values);
  queuePush = (key: string, value: string): Promise<void> => this.#call("queue_push", key, value);
  queuePop = (key: string, { block = true } = {}): Promise<Uint8Array> => this.#call("queue_pop", key, block);
  queueLen = (key: string): Promise<number> => this.#call("queue_len", key);
  listKeys = (): Promise<string[]> => this.#call("list_keys");
  barrier = (key: string, worldSize: number, { timeout = 10_000 } = {}): Promise<void> =>
    this.#call("barrier", key, worldSize, timeout);
  /** Several calls in one round trip, by PyTorch's names. */
  script = (calls: readonly (readonly Value[])[]): Promise<unknown[]> => this.#call("script", calls);

  #call<T>(op: string, ...args: readonly Value[]): Promise<T> {
    return this.#peer.call(this.#name, op, args) as Promise<T>;
  }
}

function encode(value: Value): unknown {
  if (value instanceof Uint8Array) return { hex: value.toHex() };
  if (Array.isArray(value)) return value.map(encode);
  return value;
}

function decode(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(decode);
  if (typeof value === "object" && value !== null && "hex" in value) return Uint8Array.fromHex(String(value.hex));
  return value;
}
