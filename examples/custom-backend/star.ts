import {
  Backend,
  type BackendContext,
  type BackendPlugin,
  BackendType,
  DistBackendError,
  type DistError,
  DistNetworkError,
  DistTimeoutError,
  type GroupState,
  InvalidArgumentError,
  type MessageOptions,
  type OpOptions,
  OpType,
  type ReduceOpName,
  type ReduceOptions,
  type RootOptions,
  type TensorView,
  Work,
} from "bun-c10d";
import { dial, Hub, LEFT, type Link, type Message } from "./hub.ts";

/** Channels: what users send, numbered by their tags, and what collectives send, numbered by their sequence. */
const [MESSAGES, COLLECTIVES] = [0, 1];

const combine: { readonly [op in ReduceOpName]?: (a: number, b: number) => number } = {
  SUM: (a, b) => a + b,
  MIN: Math.min,
  MAX: Math.max,
};

/** All ranks talk through a hub on rank 0, which also does the sums. */
class StarBackend extends Backend {
  static async connect({ store, rank, size, timeoutMs }: BackendContext): Promise<StarBackend> {
    const backend = new StarBackend(rank, size);
    const limits = { timeout: timeoutMs };
    if (rank === 0) {
      const hub = new Hub(size, (message) => backend.#onMessage(message));
      backend.#link = hub;
      await store.set("port", String(hub.port), limits);
      await hub.everybodyCame;
    } else {
      const port = new TextDecoder().decode(await store.get("port", limits));
      backend.#link = await dial(Number(port), rank, (message) => backend.#onMessage(message));
    }
    await store.barrier("connected", size, limits);
    return backend;
  }

  override readonly name = "star";
  #link: Link | undefined;
  #state: GroupState = "OPEN";
  #sequence = 0;
  readonly #pending = new Set<Promise<unknown>>();
  readonly #arrived = new Map<string, Uint8Array[]>();
  readonly #waiting = new Map<string, PromiseWithResolvers<Uint8Array>[]>();
  readonly #gone = new Set<number>();

  override get state(): GroupState {
    return this.#state;
  }

  override get inFlight(): number {
    return this.#pending.size;
  }

  override allReduce(tensor: TensorView, options: ReduceOptions): Work<unknown> {
    return this.#run(OpType.ALLREDUCE, options, tensor.source, async (seq) => {
      if (this.rank !== 0) return this.#swap(bytesOf(tensor), seq, bytesOf(tensor));
      const into = tensor.data as Float32Array;
      for (const peer of this.#peers()) {
        const bytes = Uint8Array.from(await this.#take(peer, COLLECTIVES, seq));
        const theirs = new (into.constructor as Float32ArrayConstructor)(bytes.buffer);
        theirs.forEach((value, i) => {
          into[i] = combine[options.op.name]?.(into[i] ?? 0, value) ?? Number.NaN;
        });
      }
      for (const peer of this.#peers()) this.#send(peer, COLLECTIVES, seq, bytesOf(tensor));
    });
  }

  override broadcast(tensor: TensorView, options: RootOptions): Work<unknown> {
    return this.#run(OpType.BROADCAST, options, tensor.source, async (seq) => {
      const bytes = bytesOf(tensor);
      if (this.rank !== options.root) bytes.set(await this.#take(options.root, COLLECTIVES, seq));
      else for (const peer of this.#peers()) this.#send(peer, COLLECTIVES, seq, bytes);
    });
  }

  override barrier(options: OpOptions): Work<unknown> {
    const nothing = new Uint8Array(0);
    return this.#run(OpType.BARRIER, options, undefined, async (seq) => {
      if (this.rank !== 0) return this.#swap(nothing, seq, nothing);
      for (const peer of this.#peers()) await this.#take(peer, COLLECTIVES, seq);
      for (const peer of this.#peers()) this.#send(peer, COLLECTIVES, seq, nothing);
    });
  }

  override send(tensor: TensorView, options: MessageOptions): Work<unknown> {
    return this.#run(OpType.SEND, options, tensor.source, async () => {
      this.#send(options.peer, MESSAGES, options.tag, bytesOf(tensor));
    });
  }

  override recv(tensor: TensorView, options: MessageOptions): Work<unknown> {
    if (options.peer < 0) return this.unsupported(OpType.RECV_ANY_SOURCE, options);
    return this.#run(OpType.RECV, options, tensor.source, async () => {
      bytesOf(tensor).set(await this.#take(options.peer, MESSAGES, options.tag));
    });
  }

  override abort(reason: string): void {
    this.#fail(new DistBackendError(reason, { backend: this.name, rank: this.rank, code: "ABORTED" }));
  }

  override async drained(): Promise<void> {
    await Promise.allSettled([...this.#pending]);
  }

  override close(): Promise<void> {
    if (this.#pending.size > 0) this.abort("the group was closed while the op was in flight");
    this.#state = "CLOSED";
    this.#link?.close();
    return Promise.resolve();
  }

  /** Starts an op. Whatever goes wrong with it, the group fails with it, so that nobody waits for this rank in vain. */
  #run(opType: OpType, { timeoutMs, owner }: OpOptions, result: unknown, steps: (seq: number) => Promise<void>) {
    if (this.#state !== "OPEN") {
      const text = `the group is ${this.#state}; make a new one with newGroup()`;
      return Work.rejected(new DistBackendError(text, { backend: this.name, code: `GROUP_${this.#state}` }), {
        opType,
        ...(owner && { owner }),
      });
    }
    const isMessage = opType === OpType.SEND || opType === OpType.RECV;
    const seq = isMessage ? -1 : ++this.#sequence;
    const timer = setTimeout(
      () => {
        const text = `${OpType[opType]} #${seq} on rank ${this.rank}: timed out after ${timeoutMs} ms`;
        this.#fail(new DistTimeoutError(text, { backend: this.name, code: "OP_TIMEOUT", timeoutMs }));
      },
      Math.min(timeoutMs, 2 ** 31 - 1),
    );
    const promise = steps(seq)
      .catch((error: DistError) => {
        this.#fail(error);
        throw error;
      })
      .then(() => result)
      .finally(() => {
        clearTimeout(timer);
        this.#pending.delete(promise);
      });
    this.#pending.add(promise);
    return Work.fromPromise(promise, { opType, seq, ...(owner && { owner }) });
  }

  #fail(error: DistError): void {
    if (this.#state !== "OPEN") return;
    this.#state = "FAILED";
    for (const { reject } of [...this.#waiting.values()].flat()) reject(error);
    this.#link?.close();
  }

  #peers(): number[] {
    return Array.from({ length: this.size }, (_, rank) => rank).filter((rank) => rank !== this.rank);
  }

  #send(to: number, channel: number, tag: number, bytes: Uint8Array): void {
    this.#link?.send({ from: this.rank, to, channel, tag, bytes });
  }

  /** Gives rank 0 its part and takes the result. */
  async #swap(own: Uint8Array, seq: number, result: Uint8Array): Promise<void> {
    this.#send(0, COLLECTIVES, seq, own);
    result.set(await this.#take(0, COLLECTIVES, seq));
  }

  /** The next bytes from a rank; first come, first served. */
  #take(from: number, channel: number, tag: number): Promise<Uint8Array> {
    const key = `${from}/${channel}/${tag}`;
    const arrived = this.#arrived.get(key)?.shift();
    if (arrived !== undefined) return Promise.resolve(arrived);
    if (this.#gone.has(from)) return Promise.reject(lost(from));
    const waiter = Promise.withResolvers<Uint8Array>();
    this.#waiting.set(key, [...(this.#waiting.get(key) ?? []), waiter]);
    return waiter.promise;
  }

  #onMessage({ from, channel, tag, bytes }: Message): void {
    if (channel === LEFT) {
      this.#gone.add(from);
      for (const [key, waiters] of this.#waiting) {
        if (key.startsWith(`${from}/`)) for (const { reject } of waiters) reject(lost(from));
      }
      return;
    }
    const key = `${from}/${channel}/${tag}`;
    const waiter = this.#waiting.get(key)?.shift();
    if (waiter !== undefined) waiter.resolve(bytes);
    else this.#arrived.set(key, [...(this.#arrived.get(key) ?? []), bytes]);
  }
}

function lost(rank: number): DistError {
  return new DistNetworkError(`rank ${rank} has left the group`, { backend: "star", peers: [rank], code: "PEER_LOST" });
}

function bytesOf({ data }: TensorView): Uint8Array {
  if (data !== undefined) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  throw new InvalidArgumentError("star takes TypedArrays and tensor() only, no foreign memory", { backend: "star" });
}

const numbers = ["float32", "float64", "int32"] as const;
const anything = [...numbers, "uint8", "int64", "bfloat16", "bool"] as const;

const plugin: BackendPlugin = {
  name: "star",
  type: BackendType.CUSTOM,
  module: import.meta.url,
  devices: ["cpu"],
  bootstrap: "store",
  capabilities: {
    ops: { allReduce: numbers, broadcast: anything, barrier: [], send: anything, recv: anything },
    reduceOps: { float32: ["SUM", "MIN", "MAX"], float64: ["SUM", "MIN", "MAX"], int32: ["SUM", "MIN", "MAX"] },
    sequenceNumbers: true,
    abort: true,
  },
  probe: () => Promise.resolve({ available: true, version: "1.0" }),
  create: (context) => StarBackend.connect(context),
};

export default plugin;
