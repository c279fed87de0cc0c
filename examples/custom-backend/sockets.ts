import type { BackendContext, BackendPlugin, DistError, MethodCall, ReducingCall, TensorView } from "bun-c10d";
import { BackendType, MethodBackend } from "bun-c10d";
import { Mesh } from "./mesh.ts";

/** Options: the address at which the other ranks reach this one; 127.0.0.1 by default, for ranks on one host. */
export type SocketsOptions = { readonly host: string };

const combine = { SUM: (a: number, b: number) => a + b, MIN: Math.min, MAX: Math.max };
const reduceOps = ["SUM", "MIN", "MAX"] as const;
const numbers = ["float32", "float64", "int32"] as const;
const anything = [...numbers, "uint8", "int64", "bfloat16", "bool"] as const;
const capabilities = {
  ops: { allReduce: numbers, broadcast: anything, allGather: anything, barrier: [], send: anything, recv: anything },
  reduceOps: { float32: reduceOps, float64: reduceOps, int32: reduceOps },
  sequenceNumbers: true,
  abort: true,
};

class SocketsBackend extends MethodBackend {
  override readonly name = "sockets";
  override readonly capabilities = capabilities;
  readonly #mesh: Mesh;

  constructor({ rank, size, clock }: BackendContext, mesh: Mesh) {
    super(rank, size, clock);
    this.#mesh = mesh;
  }

  override async allReduce(tensor: TensorView, { reduceOp, turn }: ReducingCall) {
    const f = combine[reduceOp.name as keyof typeof combine];
    const own = tensor.data as Float32Array;
    const ArrayType = own.constructor as Float32ArrayConstructor;
    const parts = await this.#swap(turn, bytesOf(tensor));
    const arrays = parts.map((bytes) => new ArrayType(Uint8Array.from(bytes).buffer));
    own.set(arrays.reduce((all, next) => all.map((value, i) => f(value, next[i] ?? 0))));
  }

  override async broadcast(tensor: TensorView, { root, turn }: MethodCall) {
    if (this.rank === root) this.#mesh.send(this.#mesh.ranks, `turn ${turn}`, bytesOf(tensor));
    bytesOf(tensor).set(await this.#mesh.inbox.take(root, `turn ${turn}`));
  }

  override async allGather(outputs: readonly TensorView[], input: TensorView, { turn }: MethodCall) {
    const parts = await this.#swap(turn, bytesOf(input));
    for (const [rank, output] of outputs.entries()) bytesOf(output).set(parts[rank] ?? []);
  }

  override async barrier({ turn }: MethodCall) {
    await this.#swap(turn, new Uint8Array());
  }

  override send(tensor: TensorView, { peer, tag }: MethodCall) {
    this.#mesh.send([peer], `message ${tag}`, bytesOf(tensor));
  }

  override async recv(tensor: TensorView, { peer, tag }: MethodCall) {
    bytesOf(tensor).set(await this.#mesh.inbox.take(peer, `message ${tag}`));
  }

  protected override onFailure(error: DistError) {
    this.#mesh.close(error);
  }

  protected override onClose() {
    this.#mesh.close();
  }

  /** Sends these bytes to every rank; resolves to the bytes of each, in rank order. */
  #swap(turn: number, bytes: Uint8Array): Promise<Uint8Array[]> {
    this.#mesh.send(this.#mesh.ranks, `turn ${turn}`, bytes);
    return Promise.all(this.#mesh.ranks.map((peer) => this.#mesh.inbox.take(peer, `turn ${turn}`)));
  }
}

function bytesOf({ data }: TensorView): Uint8Array {
  if (data === undefined) throw new TypeError("sockets supports only TypedArrays and tensor(), no foreign memory");
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** Checks the users' `options` before any rank connects. */
function checkOptions(given: unknown): SocketsOptions {
  const { host, ...others } = given as { readonly host?: unknown };
  if (typeof host === "string" && Object.keys(others).length === 0) return { host };
  throw new TypeError('the only option is host, an address such as "10.0.0.1"');
}

const plugin: BackendPlugin<SocketsOptions> = {
  name: "sockets",
  type: BackendType.CUSTOM,
  sdk: 2,
  module: import.meta.url,
  devices: ["cpu"],
  bootstrap: "store",
  capabilities,
  options: () => checkOptions,
  probe: async () => ({ available: true, version: "1.0" }),
  create: async (context) => new SocketsBackend(context, await Mesh.connect(context, context.options.host)),
};

export default plugin;
