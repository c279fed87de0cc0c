import { OpType } from "../../collectives/index.ts";
import { DistBackendError, type DistError, DistTimeoutError } from "../../errors/index.ts";
import type { Backend, BackendContext, OpName, OpOptions } from "../../registry/index.ts";
import { Work } from "../../work/index.ts";
import type { FaultInjector } from "./fault-injector.ts";
import { LostWork } from "./lost-work.ts";
import type { OpLogWriter } from "./op-log.ts";

type Method = (...args: unknown[]) => unknown;

/** Methods of a backend that are ops, and what a lost one is in errors. */
const opTypes: { readonly [op in OpName]: OpType } = {
  allReduce: OpType.ALLREDUCE,
  allReduceCoalesced: OpType.ALLREDUCE_COALESCED,
  allReduceSparse: OpType.ALLREDUCE_SPARSE,
  broadcast: OpType.BROADCAST,
  reduce: OpType.REDUCE,
  allGather: OpType.ALLGATHER,
  allGatherIntoTensor: OpType.ALLGATHER_BASE,
  allGatherIntoTensorCoalesced: OpType.ALLGATHER_COALESCED,
  gather: OpType.GATHER,
  scatter: OpType.SCATTER,
  reduceScatter: OpType.REDUCE_SCATTER,
  reduceScatterTensor: OpType.REDUCE_SCATTER_BASE,
  reduceScatterTensorCoalesced: OpType.REDUCE_SCATTER_TENSOR_COALESCED,
  allToAll: OpType.ALLTOALL,
  allToAllSingle: OpType.ALLTOALL_BASE,
  send: OpType.SEND,
  recv: OpType.RECV,
  barrier: OpType.BARRIER,
  monitoredBarrier: OpType.BARRIER,
};

/** Puts the watch around a backend. Whatever is no op reaches the backend itself, what only it has included. */
export function watchBackend(
  backend: Backend,
  context: BackendContext,
  log: OpLogWriter,
  faults: FaultInjector,
): Backend {
  return new Proxy(backend, new Watch(backend, context, log, faults));
}

/** What happens when a member of a watched backend is asked for. */
class Watch implements ProxyHandler<Backend> {
  readonly #backend: Backend;
  readonly #context: BackendContext;
  readonly #log: OpLogWriter;
  readonly #faults: FaultInjector;
  readonly #members = new Map<string | symbol, Method>();
  readonly #lost = new Set<LostWork>();
  /** Whether a collective was lost: later ones wait behind it. */
  #blocked = false;
  #failure: DistError | undefined;

  constructor(backend: Backend, context: BackendContext, log: OpLogWriter, faults: FaultInjector) {
    this.#backend = backend;
    this.#context = context;
    this.#log = log;
    this.#faults = faults;
    const own: Readonly<Record<string, Method>> = {
      abort: (reason) => this.#abort(String(reason)),
      drained: () => this.#drained(),
      close: () => this.#close(),
    };
    for (const [name, method] of Object.entries(own)) this.#members.set(name, method);
  }

  get(backend: Backend, name: string | symbol): unknown {
    if (name === "inFlight") return backend.inFlight + this.#lost.size;
    if (name === "state" && this.#failure !== undefined && backend.state === "OPEN") return "FAILED";
    const known = this.#members.get(name);
    if (known !== undefined) return known;
    const value: unknown = Reflect.get(backend, name, backend);
    if (typeof value !== "function") return value;
    const method = (value as Method).bind(backend);
    const member =
      typeof name === "string" && isOp(name) ? (...args: unknown[]) => this.#run(name, method, args) : method;
    this.#members.set(name, member);
    return member;
  }

  #run(name: OpName, method: Method, args: unknown[]): unknown {
    const number = this.#faults.count();
    this.#faults.strike("before", number);
    const slot = this.#log.begin(name, this.#context.groupName, this.#backend.name);
    let work: unknown;
    try {
      work = this.#lose(name, number, args.at(-1) as OpOptions) ?? method(...args);
    } finally {
      if (!(work instanceof Work)) this.#log.end(slot);
    }
    if (!(work instanceof Work)) return work;
    if (slot !== undefined) this.#log.number(slot, work.seq);
    this.#faults.strike("during", number);
    work.whenEnded(() => {
      this.#log.end(slot);
      this.#faults.strike("after", number);
    });
    return work;
  }

  /** The Work of an op that does not reach the backend; undefined if it shall. */
  #lose(name: OpName, number: number, { timeoutMs, owner }: OpOptions): Work<unknown> | undefined {
    const isMessage = name === "send" || name === "recv";
    const drops = this.#faults.drops(number);
    if (!drops && (isMessage || !this.#blocked)) return undefined;
    const init = { opType: opTypes[name], ...(owner && { owner }) };
    if (this.#failure !== undefined) return Work.rejected(this.#refusal(name, this.#failure), init);
    if (!isMessage) this.#blocked = true;
    const how = drops
      ? "it was dropped by the fault script"
      : "it waits behind an op that the fault script has dropped";
    const work = new LostWork({
      ...init,
      timeoutMs,
      onTimeout: () =>
        this.#timeOut(
          `${this.#where(name)}, op ${number} of this rank: timed out after ${timeoutMs} ms; ${how}`,
          name,
          timeoutMs,
        ),
      onAbort: (reason) => this.#abort(reason),
    });
    this.#lost.add(work);
    work.whenEnded(() => this.#lost.delete(work));
    return work;
  }

  #timeOut(message: string, op: OpName, timeoutMs: number): void {
    this.#fail(new DistTimeoutError(message, { ...this.#details(op), code: "OP_TIMEOUT", timeoutMs }));
    this.#backend.abort(message);
  }

  #abort(reason: string): void {
    this.#failLost(reason);
    this.#backend.abort(reason);
  }

  /** Only if something was lost does the backend not know of the failure by itself. */
  #failLost(reason: string): void {
    if (this.#lost.size === 0) return;
    this.#fail(
      new DistBackendError(`${this.#where("an op that was dropped")}: ${reason}`, {
        ...this.#details(),
        code: "ABORTED",
      }),
    );
  }

  #fail(error: DistError): void {
    this.#failure ??= error;
    for (const work of [...this.#lost]) work.settle(error);
  }

  async #drained(): Promise<void> {
    await this.#backend.drained();
    for (const work of this.#lost) await new Promise<void>((resolve) => work.whenEnded(resolve));
  }

  #close(): Promise<void> {
    this.#failLost("the group was closed while the op was in flight");
    return this.#backend.close();
  }

  #refusal(op: OpName, cause: DistError): DistBackendError {
    const text = `${op}: group "${this.#context.groupName}" has failed before (${cause.message}). It takes no more ops: make a new group with newGroup()`;
    return new DistBackendError(text, { ...this.#details(op), code: "GROUP_FAILED", cause });
  }

  #where(op: string): string {
    const { groupName, rank, size } = this.#context;
    return `${op} on group "${groupName}" (${this.#backend.name}, rank ${rank} of ${size})`;
  }

  #details(op?: OpName) {
    const { groupName: group, rank } = this.#context;
    return { backend: this.#backend.name, group, rank, ...(op && { op }) };
  }
}

function isOp(name: string): name is OpName {
  return Object.hasOwn(opTypes, name);
}
