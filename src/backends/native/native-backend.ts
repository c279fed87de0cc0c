import { isUint8Array } from "node:util/types";
import { type OpCall, opTypeOf, startOf, tensorsOf } from "../../collectives/op-call.ts";
import { opTable } from "../../collectives/op-table.ts";
import { OpType } from "../../collectives/op-type.ts";
import { type DistError, DistStoreError, messageOf } from "../../errors/index.ts";
import {
  NativeGroup,
  type NativeGroupHost,
  NativeRefusal,
  type NativeStats,
  NativeWork,
  OpRecords,
  type Shim,
  type StagedMemory,
  Status,
  unsubmittedId,
} from "../../native/index.ts";
import {
  Backend,
  type BackendContext,
  type Capabilities,
  type MemoryServices,
  type SplitPlace,
} from "../../registry/index.ts";
import {
  detachGuard,
  type Hold,
  holdTensorsIn,
  memoryKindOf,
  releaseHolds,
  STAGED_BYTES,
  type TensorView,
} from "../../tensor/index.ts";
import { type GroupState, Work } from "../../work/index.ts";
import { watchCreation } from "./creation-watch.ts";
import { FailureWatch } from "./failure-watch.ts";
import { LazyWork } from "./lazy-work.ts";
import { narrowedCapabilities } from "./narrowed-capabilities.ts";
import { NativeFailures } from "./native-failures.ts";
import { memoryServices } from "./native-memory.ts";
import type { OpStreams } from "./op-streams.ts";
import { ServedMemory } from "./served-memory.ts";
import { SplitOrder, splitting } from "./split-order.ts";
import { StagedTensor, StagedTensors } from "./staged-tensors.ts";
import { streamOf, WaitingCalls } from "./waiting-calls.ts";

/** How long ranks that failed to connect wait for each other's reasons, and at most past the group's time-out. */
const CREATION_VERDICT_MS = 1_000;
const CREATION_OVERTIME_MS = 400;
/** How long the store may take to exchange them, if the time-out is that far. */
const CREATION_STORE_MS = 5_000;

/** How long `close()` waits for aborted ops, and how long it takes in all. */
const ABORT_LIMIT_MS = 900;
const CLOSE_LIMIT_MS = 1_000;

/** How a {@link NativeBackend} is connected. */
export interface ConnectTerms {
  /** Cancels it; its reason says why. */
  readonly signal?: AbortSignal | undefined;
  /**
   * How often to ask the store whether another rank has failed, in milliseconds, while ops are in flight: for a library
   * that does not notice that. By default never.
   */
  readonly lookEveryMs?: number;
  /** The backend that it is split from, with the color of this rank. */
  readonly splitFrom?: { readonly parent: NativeBackend; readonly color: number };
}

/** Connects the backend of a group that is split from another one. */
export type ConnectSplit = (
  context: BackendContext,
  splitFrom: NonNullable<ConnectTerms["splitFrom"]>,
) => Promise<NativeBackend>;

/** Reused by every submission of this thread; nothing yields in between. */
const records = new OpRecords();

/**
 * A backend over a shim: fills in the op records, makes the one native call, and turns native failures into errors that
 * name op, group and culprit. A backend of this kind adds its plugin, its options and its capability table.
 */
export class NativeBackend extends Backend {
  /**
   * Connects a backend through `shim`. `options` are passed to the shim unchanged.
   * @param capabilities What this group can do.
   * @param terms How it differs from most.
   */
  static async connect(
    shim: Shim,
    context: BackendContext,
    options: Readonly<Record<string, string>>,
    capabilities: Capabilities,
    { signal, lookEveryMs, splitFrom }: ConnectTerms = {},
  ): Promise<NativeBackend> {
    const backend = new NativeBackend(shim.name, context, capabilities, lookEveryMs);
    backend.#group = await NativeGroup.create(
      shim,
      {
        rank: context.rank,
        worldSize: context.size,
        device: context.device,
        timeoutMs: context.timeoutMs,
        options,
        signal,
        color: splitFrom?.color,
      },
      backend.#host,
      splitFrom === undefined ? undefined : splitFrom.parent.#group,
    );
    const group = backend.#group;
    group.whenFreed(() => backend.#served.releaseAll());
    const native = group.capabilities();
    backend.#capabilities = narrowedCapabilities(capabilities, native);
    backend.#memoryServices = memoryServices(
      native.services,
      (...of) => backend.#serve(...of),
      ({ ptr }, rank) => group.windowAddress(ptr, rank),
    );
    return backend;
  }

  override readonly name: string;
  #capabilities: Capabilities;
  readonly #failures: NativeFailures;
  readonly #host: NativeGroupHost;
  #group: NativeGroup | undefined;
  #storeError: unknown;
  readonly #watch: FailureWatch | undefined;
  readonly #order: SplitOrder;
  #streams: OpStreams | undefined;
  override placeSplit?: NonNullable<Backend["placeSplit"]>;
  #memoryServices: MemoryServices | undefined;
  readonly #served = new ServedMemory();
  #isTimed = false;
  #collectives = 0;
  #messages = 0;

  private constructor(
    name: string,
    context: BackendContext,
    capabilities: Capabilities,
    lookEveryMs: number | undefined,
  ) {
    super(context.rank, context.size);
    if (lookEveryMs !== undefined)
      this.#watch = new FailureWatch(
        context,
        lookEveryMs,
        () => this.inFlight,
        (reason) => this.#group?.failBy(reason),
      );
    this.name = name;
    this.#order = new SplitOrder(context.clock);
    this.#capabilities = capabilities;
    const failures = new NativeFailures(name, context, () => this.#collectives);
    this.#failures = failures;
    const limits = { timeout: context.timeoutMs };
    const since = performance.now();
    this.#host = {
      storeSet: (key, value) => this.#ask(() => context.store.set(key, value, limits)),
      storeGet: (key) => this.#ask(async () => requireBytes(key, await context.store.get(key, limits))),
      log: (text) => context.logger.warn(text),
      errorNow: (failure, work) => failures.now(failure, work),
      errorAfterConsulting: (failure, work) => failures.afterConsulting(failure, work),
      creationError: async (failure) => {
        const leftMs = Math.max(0, since + context.timeoutMs - performance.now()) + CREATION_OVERTIME_MS;
        const limits = {
          reportsMs: Math.min(CREATION_VERDICT_MS, leftMs),
          storeMs: Math.min(CREATION_STORE_MS, leftMs),
        };
        return this.#creationError(await failures.ofCreation(failure, limits));
      },
      watchCreation: (giveUp) => watchCreation(context, giveUp),
      failed: (reason) => {
        // Without an op in flight, no error tells the other ranks.
        if (lookEveryMs !== undefined) void failures.report(reason, this.#group?.loss);
        this.announceFailure(reason);
        this.#order.flush();
      },
    };
  }

  /** Calls the store, which may be the user's own: an error that it throws at once must not escape the callback. */
  async #ask<T>(call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (error) {
      this.#storeError ??= error;
      throw error;
    }
  }

  /** Native code knows only that the exchange failed, not that the store did. */
  #creationError(error: DistError): DistError {
    const cause = this.#storeError;
    if (!(cause instanceof DistStoreError)) return error;
    return new DistStoreError(error.message, { ...error.details, code: cause.code, cause });
  }

  override get capabilities(): Capabilities {
    return this.#capabilities;
  }

  override get state(): GroupState {
    return this.#group?.state ?? "OPEN";
  }

  override get inFlight(): number {
    return (this.#group?.inFlight ?? 0) + this.#order.waiting;
  }

  override enableTiming(): void {
    this.#isTimed = true;
  }

  /**
   * Lets groups be split from this one, if its library can do that: offers {@link Backend.placeSplit}.
   * @param streams Of the device, for ops that have to wait for a split.
   */
  offerSplit(connect: ConnectSplit, streams: OpStreams): void {
    const group = this.#group;
    if (group?.capabilities().canSplit !== true) return;
    this.#streams = streams;
    this.placeSplit = (): SplitPlace => {
      const place = this.#order.place();
      return {
        split: async (context, color) => {
          await place.begun;
          // Native code splits an idle group.
          while (group.inFlight > 0) await group.drained();
          return connect(context, { parent: this, color });
        },
        [Symbol.dispose]: () => place[Symbol.dispose](),
      };
    };
  }

  override get memoryServices(): MemoryServices | undefined {
    return this.#memoryServices;
  }

  #serve(service: number, op: string, memory: TensorView, timeoutMs: number): Work<void> {
    if (!this.#order.holds || this.state !== "OPEN") return this.#serveNow(service, op, memory, timeoutMs);
    const work = new LazyWork({ opType: OpType.UNKNOWN, op }, undefined, splitting);
    const left = (waitedMs: number) => Math.max(1, timeoutMs - waitedMs);
    this.#order.hold([work], timeoutMs, (waitedMs) => [this.#serveNow(service, op, memory, left(waitedMs))]);
    return work;
  }

  #serveNow(service: number, op: string, memory: TensorView, timeoutMs: number): Work<void> {
    const group = this.#open;
    const { UNKNOWN: opType } = OpType;
    try {
      if (group === undefined) throw this.#failures.refusal(opType, this.#group, undefined);
      return this.#served.serve(service, memory, () => {
        records.fillService(service, memory, timeoutMs);
        const id = group.submitInPlace(records, memory.ptr);
        const work = new NativeWork(group, { opType, op, id, tensors: { inputs: [], outputs: [memory] } });
        group.track(work);
        this.#watch?.begin();
        return work;
      });
    } catch (error) {
      return Work.rejected(this.#failures.refusal(opType, group, error), { opType, op });
    }
  }

  /** Counters of the native engine. */
  stats(): NativeStats | undefined {
    return this.#group?.stats();
  }

  override submit(calls: readonly OpCall[]): readonly Work<void>[] {
    return this.#order.holds && this.state === "OPEN" ? this.#hold([...calls]) : this.#submitNow(calls);
  }

  /** Until what is split from the group has been made. */
  #hold(calls: readonly OpCall[]): readonly Work<void>[] {
    const streams = this.#streams;
    if (streams === undefined) return this.#submitNow(calls);
    const works = calls.map((call) => {
      const stream = { device: call.device, handle: streamOf(call).handle };
      return new LazyWork({ opType: opTypeOf(call), op: opTable[call.op].api }, stream, splitting);
    });
    let waiting: WaitingCalls;
    try {
      waiting = new WaitingCalls(calls, works, streams);
    } catch (error) {
      return this.#refuse(calls, error);
    }
    const limitMs = Math.min(...calls.map(({ timeoutMs }) => timeoutMs));
    this.#order.hold(works, limitMs, () => this.#submitWaiting(waiting, streams));
    return works;
  }

  /**
   * Submits calls in a stream of their own, since more may have been put into theirs. The other ranks count on what was
   * called: if it cannot be submitted any more, the group fails.
   */
  #submitWaiting(waiting: WaitingCalls, streams: OpStreams): readonly Work<void>[] {
    const { calls } = waiting;
    const [call] = calls;
    if (call === undefined) return [];
    try {
      using gate = streams.gate(call.device);
      return this.#submitNow(waiting.through(gate.stream));
    } catch (error) {
      const works = this.#refuse(calls, error);
      this.abort(`an op that waited for a split cannot be submitted: ${messageOf(error)}`);
      return works;
    } finally {
      waiting[Symbol.dispose]();
    }
  }

  #submitNow(calls: readonly OpCall[]): readonly Work<void>[] {
    const call = calls[0];
    if (call === undefined) return [];
    if (calls.length === 1) {
      if (call.op === "refused") return [this.#takeTurn()];
      const isInPlace = call.inputs.length === 0 && call.outputs.length <= 1;
      return isInPlace ? this.#submitInPlace(call, call.outputs[0]) : this.#submitAll(calls);
    }
    // The native side takes turns one by one.
    const turn = calls.findIndex(({ op }) => op === "refused");
    if (turn < 0) return this.#submitAll(calls);
    return [...this.#submitNow(calls.slice(0, turn)), this.#takeTurn(), ...this.#submitNow(calls.slice(turn + 1))];
  }

  /** With its own error messages: {@link submit} refuses calls on a closed or failed group. */
  override refuse(calls: readonly OpCall[]): readonly Work<void>[] {
    return this.#submitNow(calls);
  }

  #takeTurn(): Work<void> {
    this.#group?.skipTurn();
    return Work.completed(undefined, { opType: OpType.UNKNOWN });
  }

  /** A shorter {@link #submitAll}, for a call without inputs. */
  #submitInPlace(call: OpCall, tensor: TensorView | undefined): readonly Work<void>[] {
    const group = this.#open;
    if (group === undefined) return this.#refuse([call]);
    let staged: StagedTensor | undefined;
    let exposed: TensorView | undefined;
    let holds: readonly Hold[] | undefined;
    let id: number;
    try {
      let address: ArrayBufferView | number | null = null;
      if (tensor !== undefined) {
        const { data, byteLength } = tensor;
        address = tensor.ptr;
        if (data === undefined) holds = holdTensorsIn(startOf(call), call.outputs);
        if (data !== undefined && byteLength > 0) {
          if (byteLength <= STAGED_BYTES) {
            staged = new StagedTensor(data, byteLength, group.staging);
            address = staged.address;
          } else {
            const kind = memoryKindOf(data);
            if (kind === "resizable") return this.#submitAll([call]);
            if (kind === "fixed") exposed = tensor;
            address = data;
          }
        }
      }
      records.fillInPlace(call, this.#isTimed);
      id = group.submitInPlace(records, address);
    } catch (error) {
      staged?.release();
      if (holds !== undefined) releaseHolds(holds);
      return this.#refuse([call], error);
    }
    return [this.#track(group, call, id, exposed, staged, holds)];
  }

  /** One native call for all; if one of them is refused, none is submitted. */
  #submitAll(calls: readonly OpCall[]): readonly Work<void>[] {
    const group = this.#open;
    if (group === undefined) return this.#refuse(calls);
    const staged: StagedTensors[] = [];
    const holds: (readonly Hold[] | undefined)[] = [];
    let id: number;
    try {
      for (const call of calls) {
        holds.push(hasForeign(call) ? holdTensorsIn(startOf(call), call.inputs, call.outputs) : undefined);
        staged.push(new StagedTensors(call.inputs, call.outputs, group.staging));
      }
      records.fill(calls, staged, this.#isTimed);
      id = group.submit(records);
    } catch (error) {
      for (const each of staged) each.release();
      for (const each of holds) if (each !== undefined) releaseHolds(each);
      return this.#refuse(calls, error);
    }
    return calls.map((call, i) => {
      const exposed = staged[i]?.exposed;
      return this.#track(group, call, id + i, exposed?.length === 0 ? undefined : exposed, staged[i], holds[i]);
    });
  }

  /** The native group, if it takes ops. */
  get #open(): NativeGroup | undefined {
    return this.#group?.state === "OPEN" ? this.#group : undefined;
  }

  #track(
    group: NativeGroup,
    call: OpCall,
    id: number,
    exposed: TensorView | readonly TensorView[] | undefined,
    staged: StagedMemory | undefined,
    holds: readonly Hold[] | undefined,
  ): Work<void> {
    const work = new NativeWork(group, {
      opType: opTypeOf(call),
      op: opTable[call.op].api,
      seq: this.#numberOf(call),
      id,
      tensors: call,
      exposed,
      staged,
      isTimed: this.#isTimed,
      stream: startOf(call),
      holds,
    });
    group.track(work);
    this.#watch?.begin();
    if (detachGuard !== undefined) work.whenEnded(detachGuard.guard(tensorsOf(call), work.title));
    return work;
  }

  #numberOf({ op, continuation }: OpCall): number {
    if (opTable[op].kind === "message") return ++this.#messages;
    return continuation ? this.#collectives : ++this.#collectives;
  }

  /**
   * Works that reject because the native side did not accept the calls.
   * @param error The reason; if undefined, the state of the group.
   */
  #refuse(calls: readonly OpCall[], error?: unknown): readonly Work<void>[] {
    const group = this.#group;
    // The native side counts the calls that it refuses itself: each collective of a batch.
    if (error !== undefined && !(error instanceof NativeRefusal)) {
      for (const { op } of calls) if (opTable[op].kind === "collective") group?.skipTurn();
    }
    const failed = error instanceof NativeRefusal ? error.failure.status === Status.GROUP_FAILED : error === undefined;
    const loss = failed ? group?.unreportedFailure() : undefined;
    const [opType = OpType.UNKNOWN, ...others] = new Set(calls.map(opTypeOf));
    const refusal = this.#failures.refusal(others.length === 0 ? opType : OpType.COALESCED, group, error);
    return calls.map((call) => {
      if (group === undefined || loss === undefined) return Work.rejected(refusal, { opType: opTypeOf(call) });
      const names = { opType: opTypeOf(call), op: opTable[call.op].api, seq: this.#numberOf(call) };
      const init = { ...names, id: unsubmittedId(), tensors: call };
      const work = new NativeWork(group, init);
      group.failUnsubmitted(work, loss);
      return work;
    });
  }

  override abort(reason: string): void {
    this.#group?.abort(reason);
    this.#order.flush();
  }

  override async drained(): Promise<void> {
    while (this.#order.waiting > 0) await this.#order.flowing();
    await this.#group?.drained();
  }

  override async close(): Promise<void> {
    const group = this.#group;
    this.#watch?.[Symbol.dispose]();
    if (group === undefined || group.state === "CLOSED") return;
    const began = performance.now();
    this.#order.flush();
    if (group.inFlight > 0) {
      group.abort("the group was closed while the op was in flight");
      await Promise.race([group.drained(), Bun.sleep(ABORT_LIMIT_MS)]);
    }
    group.close(CLOSE_LIMIT_MS - Math.min(ABORT_LIMIT_MS, performance.now() - began));
  }
}

function hasForeign({ inputs, outputs }: OpCall): boolean {
  for (const { data } of inputs) if (data === undefined) return true;
  for (const { data } of outputs) if (data === undefined) return true;
  return false;
}

function requireBytes(key: string, value: unknown): Uint8Array {
  if (isUint8Array(value)) return value;
  throw new DistStoreError(
    `the store returned a value of type ${typeof value} for key ${key}; get() must return a Uint8Array`,
    {
      code: "NOT_BYTES",
      keys: [key],
    },
  );
}
