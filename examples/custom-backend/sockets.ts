import {
  Backend,
  type BackendContext,
  type BackendPlugin,
  BackendType,
  DistBackendError,
  DistError,
  DistNetworkError,
  DistTimeoutError,
  type GroupState,
  type MessageOptions,
  type OpOptions,
  OpType,
  type ReduceOptions,
  type RootOptions,
  type TensorView,
  Work,
} from "bun-c10d";
import { Mesh } from "./mesh.ts";

/** Options of the backend. */
export interface SocketsOptions {
  /** Address by which the other ranks reach this one. Default is 127.0.0.1: all ranks are on one host. */
  readonly host: string;
}

const combine: Readonly<Record<string, (a: number, b: number) => number>> = {
  SUM: (a, b) => a + b,
  MIN: Math.min,
  MAX: Math.max,
};

class SocketsBackend extends Backend {
  static async connect({ rank, size, store, timeoutMs, options, logger }: BackendContext<SocketsOptions>) {
    const mesh = await Mesh.connect({ rank, size, store, timeoutMs, host: options.host ?? "127.0.0.1" });
    logger.debug(`connected to ${size - 1} ranks`);
    return new SocketsBackend(rank, size, mesh);
  }

  override readonly name = "sockets";
  readonly #mesh: Mesh;
  readonly #pending = new Set<Promise<unknown>>();
  #state: GroupState = "OPEN";
  #collectives = 0;

  private constructor(rank: number, size: number, mesh: Mesh) {
    super(rank, size);
    this.#mesh = mesh;
  }

  override skipTurn(): void {
    this.#collectives++;
  }

  override allReduce(tensor: TensorView, options: ReduceOptions): Work<unknown> {
    return this.#collective(OpType.ALLREDUCE, options, tensor.source, async (tag) => {
      const own = tensor.data as Float32Array;
      const f = combine[options.op.name] ?? (() => Number.NaN);
      const [first, ...others] = await this.#swap(tag, Uint8Array.from(bytesOf(tensor)));
      bytesOf(tensor).set(first ?? []);
      for (const bytes of others) {
        const theirs = new (own.constructor as Float32ArrayConstructor)(Uint8Array.from(bytes).buffer);
        theirs.forEach((value, i) => {
          own[i] = f(own[i] ?? 0, value);
        });
      }
    });
  }

  override broadcast(tensor: TensorView, options: RootOptions): Work<unknown> {
    return this.#collective(OpType.BROADCAST, options, tensor.source, async (tag) => {
      const bytes = bytesOf(tensor);
      if (this.rank !== options.root) bytes.set(await this.#mesh.take(options.root, tag));
      else for (let peer = 0; peer < this.size; peer++) this.#mesh.send(peer, tag, bytes);
    });
  }

  override allGather(outputs: readonly TensorView[], input: TensorView, options: OpOptions): Work<unknown> {
    const sources = outputs.map(({ source }) => source);
    return this.#collective(OpType.ALLGATHER, options, sources, async (tag) => {
      const parts = await this.#swap(tag, bytesOf(input));
      for (const [rank, output] of outputs.entries()) bytesOf(output).set(parts[rank] ?? []);
    });
  }

  override barrier(options: OpOptions): Work<unknown> {
    return this.#collective(OpType.BARRIER, options, undefined, async (tag) => {
      await this.#swap(tag, new Uint8Array(0));
    });
  }

  override send(tensor: TensorView, options: MessageOptions): Work<unknown> {
    return this.#run(OpType.SEND, -1, options, tensor.source, async () => {
      this.#mesh.send(options.peer, `message ${options.tag}`, bytesOf(tensor));
    });
  }

  override recv(tensor: TensorView, options: MessageOptions): Work<unknown> {
    return this.#run(OpType.RECV, -1, options, tensor.source, async () => {
      bytesOf(tensor).set(await this.#mesh.take(options.peer, `message ${options.tag}`));
    });
  }

  override get state(): GroupState {
    return this.#state;
  }

  override get inFlight(): number {
    return this.#pending.size;
  }

  override async drained(): Promise<void> {
    await Promise.allSettled([...this.#pending]);
  }

  override abort(reason: string): void {
    this.#fail(new DistBackendError(reason, { backend: this.name, rank: this.rank, code: "ABORTED" }));
  }

  override async close(): Promise<void> {
    if (this.#pending.size > 0) this.abort("the group was closed while the op was in flight");
    this.#state = "CLOSED";
    this.#mesh.close();
  }

  /** Collectives are numbered where they are called, so they may overlap and still meet their like on the other ranks. */
  #collective(opType: OpType, options: OpOptions, result: unknown, steps: (tag: string) => Promise<void>) {
    const seq = this.#state === "OPEN" ? ++this.#collectives : -1;
    return this.#run(opType, seq, options, result, () => steps(`collective ${seq}`));
  }

  /** Starts an op. Whatever goes wrong with it, the group fails with it, so that no rank waits for this one in vain. */
  #run(opType: OpType, seq: number, options: OpOptions, result: unknown, steps: () => Promise<void>): Work<unknown> {
    const init = { opType, seq, owner: options.owner };
    if (this.#state !== "OPEN") {
      const text = `the group is ${this.#state}; make a new one with newGroup()`;
      return Work.rejected(new DistBackendError(text, { backend: this.name, code: `GROUP_${this.#state}` }), init);
    }
    const { timeoutMs } = options;
    const late = `${OpType[opType]} #${seq} on rank ${this.rank} timed out after ${timeoutMs} ms`;
    const expire = () => this.#fail(new DistTimeoutError(late, { backend: this.name, code: "OP_TIMEOUT", timeoutMs }));
    const timer = setTimeout(expire, Math.min(timeoutMs, 2 ** 31 - 1));
    const promise = steps()
      .catch((error: unknown) => {
        throw this.#fail(error instanceof DistError ? error : new DistNetworkError(String(error), { cause: error }));
      })
      .then(() => result)
      .finally(() => {
        clearTimeout(timer);
        this.#pending.delete(promise);
      });
    this.#pending.add(promise);
    return Work.fromPromise(promise, init);
  }

  #fail(error: DistError): DistError {
    if (this.#state === "OPEN") {
      this.#state = "FAILED";
      this.#mesh.close(error);
    }
    return error;
  }

  /** Gives every rank these bytes; resolves to what each gave, in the order of ranks. */
  #swap(tag: string, bytes: Uint8Array): Promise<Uint8Array[]> {
    const ranks = Array.from({ length: this.size }, (_, rank) => rank);
    for (const rank of ranks) this.#mesh.send(rank, tag, bytes);
    return Promise.all(ranks.map((rank) => this.#mesh.take(rank, tag)));
  }
}

function bytesOf({ data }: TensorView): Uint8Array {
  if (data === undefined) throw new TypeError("sockets takes TypedArrays and tensor() only, no foreign memory");
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** What users give as `options` is checked before any rank connects. */
function checkOptions(given: unknown): SocketsOptions {
  const { host, ...others } = given as Partial<Record<string, unknown>>;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) throw new TypeError(`there is no option ${unknown}, only host`);
  if (typeof host !== "string") throw new TypeError(`host must be an address such as "10.0.0.1", got ${host}`);
  return { host };
}

const numbers = ["float32", "float64", "int32"] as const;
const anything = [...numbers, "uint8", "int64", "bfloat16", "bool"] as const;

const plugin: BackendPlugin<SocketsOptions> = {
  name: "sockets",
  type: BackendType.CUSTOM,
  sdk: 1,
  module: import.meta.url,
  devices: ["cpu"],
  bootstrap: "store",
  capabilities: {
    ops: { allReduce: numbers, broadcast: anything, allGather: anything, barrier: [], send: anything, recv: anything },
    reduceOps: { float32: ["SUM", "MIN", "MAX"], float64: ["SUM", "MIN", "MAX"], int32: ["SUM", "MIN", "MAX"] },
    sequenceNumbers: true,
    abort: true,
  },
  options: () => checkOptions,
  probe: async () => ({ available: true, version: "1.0" }),
  create: (context) => SocketsBackend.connect(context),
};

export default plugin;
