import type { Pointer } from "bun:ffi";
import { isMainThread } from "node:worker_threads";
import { type DistError, messageOf, throwLater } from "../errors/index.ts";
import { asError, blockedSliceMs, type GroupState, serveBlocked } from "../work/index.ts";
import { EventFlag, EventKind, EventLayout, Status } from "./abi.generated.ts";
import { type ExchangeHost, ExchangeService } from "./exchange-service.ts";
import { capabilitiesOf, type NativeCapabilities, type NativeStats, statsOf } from "./group-facts.ts";
import { createGroupHandle, type NativeGroupConfig } from "./group-handle.ts";
import type { Shim } from "./library.ts";
import { type NativeFailure, ownFailure, readFailure } from "./native-failure.ts";
import type { NativeWork } from "./native-work.ts";
import type { OpRecords } from "./op-records.ts";
import type { ShimSymbols } from "./shim-symbols.ts";
import { StagingArea } from "./staging-area.ts";
import { type WakeSocket, watchSocket } from "./wake-socket.ts";
import { WAIT_SLICE_MS } from "./worker-guard.ts";

const MAX_EVENTS = 256;
/** How long a wait blocks at a time while other ops of the thread are in flight. */
const SHARED_SLICE_MS = 5;
/**
 * Number of ops whose memory is checked by one call into a group, so that many in flight do not slow each other down.
 * In a Worker all of them, since the next call may copy results back to them.
 */
const MAX_CHECKED = isMainThread ? 32 : Number.POSITIVE_INFINITY;
/** How long close() blocks if ops have outlived the grace period of an abort and may never end. */
const STUCK_CLOSE_LIMIT_MS = 50;
const encoder = new TextEncoder();

/** What a {@link NativeGroup} needs from the backend that owns it. */
export interface NativeGroupHost extends ExchangeHost {
  /** The error for a failed op, to be thrown at once. */
  errorNow(failure: NativeFailure, work: NativeWork): DistError;
  /** The same after asking the other ranks, for an op that is awaited. Never rejects. */
  errorAfterConsulting(failure: NativeFailure, work: NativeWork): Promise<DistError>;
  /** The error of a failed creation. Until it resolves, connections to the other ranks stay open. Never rejects. */
  creationError(failure: NativeFailure): Promise<DistError>;
  /** Calls `giveUp` when the group can no longer be created, unless disposed of before. */
  watchCreation(giveUp: (reason: string) => void): Disposable;
  /** Called when the group has failed and no op in flight will report that, or the first one has. */
  failed(reason: string): void;
}

/** Id that stands for the group, among ids of ops. */
const GROUP = 0;

/** Events drained from native code. */
interface EventBatch {
  readonly events: Int32Array;
  /** The first that has not been handled yet. */
  next: number;
  count: number;
}

/**
 * Closed groups of this thread whose native threads had not ended in time, so that native code has not freed them, with
 * the Works whose buffers it may still access.
 */
const unfreed = new Map<NativeGroup, ReadonlySet<NativeWork>>();

/** Groups of this Worker whose shim does not detect its end. */
const unguarded = new Set<NativeGroup>();
let endIsWatched = false;

/** Time 0 of the clock of native code, by `performance.now()`; both are monotonic. */
let clockOriginMs: number | undefined;

/** Groups of this thread with started ops in flight. */
const busy = new Set<NativeGroup>();

/** Groups of this thread whose submitted ops are started by the next microtask. */
const unkicked = new Set<NativeGroup>();

/**
 * One communicator of a shim. Ops are started lazily: a microtask after their submission, unless `wait()` drives them
 * first. Ops in flight keep the process alive; an idle group does not.
 */
export class NativeGroup {
  /**
   * Creates a group; resolves when all ranks are connected.
   * @param parent The open group, without ops in flight, that it is split from. All ranks of that take part.
   */
  static async create(
    shim: Shim,
    config: NativeGroupConfig,
    host: NativeGroupHost,
    parent?: NativeGroup,
  ): Promise<NativeGroup> {
    NativeGroup.#freeEnded();
    const handle = createGroupHandle(shim, config, parent === undefined ? undefined : parent.#handle);
    const group = new NativeGroup(shim, handle, host, config.worldSize);
    if (shim.workerHazard !== undefined) group.#endWithWorker(shim.workerHazard);
    const { signal } = config;
    const cancel = (): void => group.#cancel(messageOf(signal?.reason));
    try {
      using _watch = host.watchCreation((reason) => group.#giveUp(reason));
      if (signal?.aborted === true) cancel();
      signal?.addEventListener("abort", cancel);
      group.#socket = await watchSocket(shim.symbols.c10d_wake_fd(handle), group.#drain);
      await group.#ready.promise;
    } catch (error) {
      group.close();
      throw error;
    } finally {
      signal?.removeEventListener("abort", cancel);
    }
    group.#socket.unref();
    return group;
  }

  /** Memory for small ops. */
  readonly staging: StagingArea;
  readonly #symbols: ShimSymbols;
  readonly #handle: Pointer;
  readonly #host: NativeGroupHost;
  readonly #exchange: ExchangeService;
  readonly #worldSize: number;
  readonly #works = new Map<number, NativeWork>();
  /** Works whose memory could be detached while they use it. */
  readonly #exposed: NativeWork[] = [];
  #nextExposed = 0;
  readonly #released = new Map<number, NativeWork>();
  readonly #batch: EventBatch = { events: eventBuffer(MAX_EVENTS), next: 0, count: 0 };
  /** Batches being handled: several if a listener of an op's end drains again. */
  readonly #batches: EventBatch[] = [];
  readonly #result = eventBuffer(1);
  readonly #freedListeners: (() => void)[] = [];
  readonly #ready = Promise.withResolvers<void>();
  #socket: WakeSocket | undefined;
  #state: GroupState = "OPEN";
  #closed = false;
  #kickQueued = false;
  #holding = false;
  /** Why the group has failed. */
  #loss: NativeFailure | undefined;
  #failureReported = false;
  #drained: (() => void)[] = [];

  private constructor({ symbols, copyBytes }: Shim, handle: Pointer, host: NativeGroupHost, worldSize: number) {
    this.staging = new StagingArea(copyBytes);
    this.#symbols = symbols;
    this.#handle = handle;
    this.#host = host;
    this.#exchange = new ExchangeService(symbols, handle, host);
    this.#worldSize = worldSize;
    this.#ready.promise.catch(() => {});
  }

  get state(): GroupState {
    return this.#state;
  }

  /** Number of ops in flight. */
  get inFlight(): number {
    return this.#works.size;
  }

  /** Message of the group's failure. */
  get failureText(): string {
    return this.#failureOf(GROUP)?.text ?? "";
  }

  /** What the native side noticed when the group failed; undefined if it has not, or was aborted by this rank. */
  get loss(): NativeFailure | undefined {
    return this.#loss;
  }

  /** Takes the failure of an op, or returns that of the group. */
  #failureOf(id: number): NativeFailure | undefined {
    if (this.#closed) return undefined;
    return readFailure((record) => this.#symbols.c10d_take_failure(this.#handle, id, record), this.#worldSize);
  }

  /** What the group can do, as far as its shim reports it. */
  capabilities(): NativeCapabilities {
    return capabilitiesOf(this.#symbols, this.#handle);
  }

  /**
   * Submits the one op of the records, whose output is at this address; returns its id.
   * @throws NativeRefusal when native code refuses it.
   */
  submitInPlace({ bytes }: OpRecords, output: Address): number {
    this.#checkExposed();
    return this.#accepted(this.#symbols.c10d_submit_one(this.#handle, bytes, null, output));
  }

  /**
   * Submits the ops of the records as one batch; returns the id of the first. The ids of the others follow it.
   * @throws NativeRefusal when native code refuses one of them, and therefore all.
   */
  submit({ bytes, count }: OpRecords): number {
    this.#checkExposed();
    return this.#accepted(this.#symbols.c10d_submit(this.#handle, bytes, count));
  }

  /** Address of a rank's part of an open window, whose part on this rank is at `address`; 0 if there is none. */
  windowAddress(address: number, rank: number): number {
    return this.#closed ? 0 : Number(this.#symbols.c10d_window_address(this.#handle, address, rank));
  }

  #accepted(id: number): number {
    if (id > 0) return id;
    const failure = readFailure((record) => this.#symbols.c10d_last_failure(record), this.#worldSize);
    throw new NativeRefusal(failure ?? { ...NO_FAILURE, status: id, text: "refused" });
  }

  /** Whether the library has got an op. */
  hasStarted(work: NativeWork): boolean {
    return this.#closed || this.#symbols.c10d_op_started(this.#handle, work.id) !== 0;
  }

  /** Counts a collective that was refused before {@link submit}. */
  skipTurn(): void {
    if (!this.#closed) this.#symbols.c10d_skip_turn(this.#handle);
  }

  /** Registers the Work of a submitted op, which is settled when the op ends. */
  track(work: NativeWork): void {
    this.#works.set(work.id, work);
    if (work.isExposed) work.exposedAt = this.#exposed.push(work) - 1;
    unkicked.add(this);
    if (this.#kickQueued) return;
    this.#kickQueued = true;
    queueMicrotask(this.#kick);
  }

  /** Lets what was submitted begin while this thread goes on; else it does when microtasks run. */
  startNow(): void {
    if (!unkicked.delete(this) || this.#closed) return;
    this.#hold();
    this.#checkExposed();
    this.#symbols.c10d_kick(this.#handle);
  }

  readonly #kick = (): void => {
    this.#kickQueued = false;
    unkicked.delete(this);
    if (this.#works.size === 0 || this.#closed) return;
    this.#hold();
    this.#checkExposed();
    this.#symbols.c10d_kick(this.#handle);
    // Ops that have already completed need not wait for the event loop.
    this.#drain();
  };

  /** Blocks until a Work has ended and settles it. Returns false when `limitMs` expires first. */
  wait(work: NativeWork, limitMs: number): boolean {
    if (this.#closed) {
      work.settle(this.#host.errorNow(work.failure ?? CLOSED_FAILURE, work));
      return true;
    }
    // While this thread blocks, no microtask runs, and a peer may be waiting for ops of another group first.
    if (unkicked.size > (unkicked.has(this) ? 1 : 0)) {
      for (const group of unkicked) if (group !== this) group.#kick();
    }
    this.#checkExposed();
    const status = this.#await(work.id, limitMs);
    if (status === Status.WAIT_TIMEOUT) return false;
    if (status === Status.UNKNOWN_OP) {
      // The end was already drained: it may be later in a batch of which a listener is being called.
      for (const batch of this.#batches) this.#finish(batch);
      // Else the other ranks are still being asked about its cause.
      if (!work.isCompleted()) {
        work.settle(this.#host.errorNow(work.failure ?? NO_FAILURE, work));
        this.#markReported();
      }
    } else {
      this.#end(work, status, this.#result, 0, true);
    }
    return true;
  }

  /**
   * Waits natively, in slices: a Worker can be terminated only between two of them, and other ops of this thread
   * progress between them, as do requests to a worker server. An op of several steps then begins its next one, for
   * which the peer of this op may be waiting.
   */
  #await(id: number, limitMs: number): number {
    const isAlone = this.#works.size === 1 && busy.size === (this.#holding ? 1 : 0);
    const sliceMs = Math.min(WAIT_SLICE_MS, blockedSliceMs(), isAlone ? Number.POSITIVE_INFINITY : SHARED_SLICE_MS);
    if (limitMs <= sliceMs) return this.#symbols.c10d_wait(this.#handle, id, limitMs, this.#result, EventLayout.SIZE);
    const deadline = limitMs === Number.POSITIVE_INFINITY ? limitMs : performance.now() + limitMs;
    for (let leftMs = limitMs; ; leftMs = Math.max(0, deadline - performance.now())) {
      const slice = Math.min(leftMs, sliceMs);
      const status = this.#symbols.c10d_wait(this.#handle, id, slice, this.#result, EventLayout.SIZE);
      if (status !== Status.WAIT_TIMEOUT || leftMs <= sliceMs) return status;
      serveBlocked();
      if (isAlone) continue;
      for (const group of busy) group.#drain();
      for (const group of unkicked) group.#kick();
    }
  }

  /**
   * Makes a stream wait for an op, blocking only until the op has started. In a closed group there is nothing to wait
   * for.
   * @throws the error of the op if it has failed; a time-out after `limitMs`.
   */
  synchronize(work: NativeWork, stream: number, limitMs: number): void {
    const deadline = performance.now() + limitMs;
    for (let leftMs = limitMs; !this.#closed; leftMs = deadline - performance.now()) {
      const slice = Math.max(0, Math.min(leftMs, WAIT_SLICE_MS));
      const status = this.#symbols.c10d_synchronize(this.#handle, work.id, stream, slice);
      if (status === Status.OK) return;
      if (status === Status.WAIT_TIMEOUT && leftMs > slice) continue;
      const failure = readFailure((record) => this.#symbols.c10d_last_failure(record), this.#worldSize);
      throw this.#host.errorNow(status === Status.WAIT_TIMEOUT ? NOT_STARTED : (failure ?? NO_FAILURE), work);
    }
  }

  readonly #drain = (): void => {
    // A listener of an op's end may call this again while the rest of a batch is still unread.
    const isOuter = this.#batches.length === 0;
    const batch = isOuter ? this.#batch : { events: eventBuffer(MAX_EVENTS), next: 0, count: 0 };
    this.#batches.push(batch);
    try {
      for (let isFull = true; isFull && !this.#closed; ) {
        this.#checkExposed();
        batch.count = this.#symbols.c10d_drain(this.#handle, batch.events, EventLayout.SIZE, MAX_EVENTS);
        batch.next = 0;
        isFull = batch.count === MAX_EVENTS;
        this.#finish(batch);
      }
    } finally {
      this.#batches.pop();
    }
  };

  /** Handles the rest of a batch. Drained events do not come again: each is handled, even if the one before throws. */
  #finish(batch: EventBatch): void {
    while (batch.next < batch.count && !this.#closed) {
      const at = (batch.next++ * EventLayout.SIZE) / 4;
      try {
        this.#onEvent(batch.events, at);
      } catch (error) {
        throwLater(error);
      }
    }
  }

  #onEvent(events: Int32Array, at: number): void {
    const kind = events[at + EventLayout.kind / 4];
    const status = events[at + EventLayout.status / 4] ?? 0;
    const id = readWide(events, at + EventLayout.id / 4);
    switch (kind) {
      case EventKind.COMPLETE: {
        const work = this.#works.get(id);
        if (work !== undefined) this.#end(work, status, events, at, false);
        break;
      }
      case EventKind.RELEASED:
        this.#released.get(id)?.release();
        this.#released.delete(id);
        break;
      case EventKind.READY:
        this.#onReady(status);
        break;
      case EventKind.LOST:
        this.#state = "FAILED";
        this.#loss ??= this.#failureOf(GROUP);
        if (this.#works.size === 0) this.#host.failed(this.#loss?.text ?? "");
        break;
      case EventKind.STORE_SET:
      case EventKind.STORE_GET:
      case EventKind.LOG:
        this.#exchange.serve(kind, id, events, at);
        break;
    }
  }

  #onReady(status: number): void {
    if (status === Status.OK) {
      this.#ready.resolve();
      return;
    }
    this.#state = "FAILED";
    void this.#host.creationError(this.#failureOf(GROUP) ?? NO_FAILURE).then(this.#ready.reject);
  }

  /** Ends a Work by an event: at once, or when the other ranks have been asked about the cause of its error. */
  #end(work: NativeWork, status: number, event: Int32Array, at: number, now: boolean): void {
    const peer = event[at + EventLayout.peer / 4] ?? -1;
    const source = peer < this.#worldSize ? peer : -1;
    const isPinned = ((event[at + EventLayout.flags / 4] ?? 0) & EventFlag.PINNED) !== 0;
    if (work.isTimed) {
      const startedNs = readWide(event, at + EventLayout.startedNs / 4);
      const finishedNs = readWide(event, at + EventLayout.finishedNs / 4);
      clockOriginMs ??= performance.now() - this.#symbols.c10d_clock_ns() / 1e6;
      work.setTimes(startedNs, finishedNs, clockOriginMs);
    }
    if (isPinned) this.#released.set(work.id, work);
    if (work.exposedAt >= 0) this.#unexpose(work);
    if (status === Status.OK && !work.isDetached && work.isIntact) {
      try {
        work.succeed(source);
      } catch (error) {
        work.settle(asError(error, work));
      }
      this.#forget(work);
      return;
    }
    if (!isPinned) work.release();
    if (status === Status.OK) this.#failDetached(work);
    // Taken in any case, since native code keeps it until then.
    const taken = status === Status.OK ? undefined : this.#failureOf(work.id);
    const failure = work.isDetached ? DETACHED_FAILURE : (taken ?? NO_FAILURE);
    work.failure = failure;
    if (status !== Status.OK && status !== Status.INVALID && status !== Status.UNSUPPORTED) {
      this.#state = "FAILED";
      this.#loss ??= failure;
    }
    if (now) {
      work.settle(this.#host.errorNow(failure, work));
      this.#markReported();
      this.#forget(work);
      return;
    }
    this.#failLater(work, failure);
  }

  /**
   * Checks whether memory that native code is using was detached. By then, native code may have written to memory that
   * is not its own, so no rank can rely on the group any more. Of many ops in flight, each call checks the next few;
   * each op is checked again at its end.
   */
  #checkExposed(): void {
    for (let left = Math.min(this.#exposed.length, MAX_CHECKED); left > 0; left--) {
      if (this.#nextExposed >= this.#exposed.length) this.#nextExposed = 0;
      const work = this.#exposed[this.#nextExposed++];
      if (work === undefined || work.isIntact) continue;
      this.#unexpose(work);
      this.#failDetached(work);
    }
  }

  #unexpose(work: NativeWork): void {
    const last = this.#exposed.pop();
    if (last !== undefined && last !== work) {
      this.#exposed[work.exposedAt] = last;
      last.exposedAt = work.exposedAt;
    }
    work.exposedAt = -1;
  }

  /** Called when an op has been rejected, with the failure of the group if that has failed. */
  #markReported(): void {
    if (this.#state !== "FAILED") return;
    this.#failureReported = true;
    this.#host.failed(this.#loss?.text ?? "");
  }

  #failDetached(work: NativeWork): void {
    work.isDetached = true;
    this.#failureReported = true;
    this.abort(`${work.title}: ${DETACHED_TEXT}`);
  }

  #failLater(work: NativeWork, failure: NativeFailure): void {
    const end = (error: unknown): void => {
      this.#failureReported ||= this.#state === "FAILED";
      work.settle(asError(error, work));
      this.#markReported();
      this.#forget(work);
    };
    this.#host.errorAfterConsulting(failure, work).then(end, end);
  }

  /**
   * The failure of the group, until an op has rejected with it. Ops submitted before that also report it, by
   * {@link failUnsubmitted}, rather than an earlier failure of the group that their caller does not know of yet.
   */
  unreportedFailure(): NativeFailure | undefined {
    this.#drain();
    return this.#failureReported ? undefined : this.#loss;
  }

  /** Ends a Work with the failure of the group, as if the op had been in flight. */
  failUnsubmitted(work: NativeWork, failure: NativeFailure): void {
    work.failure = failure;
    this.#works.set(work.id, work);
    this.#hold();
    this.#failLater(work, failure);
  }

  #forget(work: NativeWork): void {
    if (!this.#works.delete(work.id) || this.#works.size > 0) return;
    this.#letGo();
    this.#announceDrained();
  }

  /** Resolves what {@link drained} returned. */
  #announceDrained(): void {
    if (this.#drained.length === 0) return;
    for (const resolve of this.#drained.splice(0)) resolve();
  }

  /** Aborts connecting because of other ranks. */
  #giveUp(reason: string): void {
    if (!this.#closed) this.#symbols.c10d_abort(this.#handle, Status.NETWORK, encoder.encode(`${reason}\0`));
  }

  /** Fails the group because another rank has, which the library does not notice. */
  failBy(reason: string): void {
    this.#giveUp(reason);
  }

  /** Aborts connecting because this rank no longer wants the group. */
  #cancel(reason: string): void {
    if (!this.#closed) this.#symbols.c10d_abort(this.#handle, Status.ABORTED, encoder.encode(`${reason}\0`));
  }

  /** Fails the group: wakes every waiter, rejects queued ops. Safe to call at any time. */
  abort(reason: string): void {
    if (this.#closed) return;
    if (this.#state === "OPEN") this.#state = "FAILED";
    this.#symbols.c10d_abort(this.#handle, Status.ABORTED, encoder.encode(`${reason}\0`));
    if (this.#works.size === 0) this.#host.failed(reason);
  }

  /** Resolves when no op is in flight. */
  drained(): Promise<void> {
    if (this.#works.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#drained.push(resolve));
  }

  stats(): NativeStats {
    return statsOf(this.#symbols, this.#closed ? undefined : this.#handle);
  }

  /** Closes the group, blocking for at most `limitMs`, less if that is useless. Drain or abort ops in flight first. */
  close(limitMs = 1_000): void {
    if (this.#closed) return;
    this.#drain();
    this.#closed = true;
    this.#exchange.close();
    this.#state = "CLOSED";
    unguarded.delete(this);
    const limit = this.#released.size > 0 ? Math.min(limitMs, STUCK_CLOSE_LIMIT_MS) : limitMs;
    NativeGroup.#freeEnded();
    const stillRunning = this.#symbols.c10d_close(this.#handle, limit);
    if (stillRunning > 0) this.#keepUnfreed();
    else this.#releaseAll(this.#works.values());
    for (const work of [...this.#works.values()]) {
      // The others end as soon as the ranks have agreed on the cause.
      if (work.failure !== undefined) continue;
      work.settle(this.#host.errorNow(CLOSED_FAILURE, work));
      this.#forget(work);
    }
    this.#letGo();
    this.#socket?.end();
    this.#announceDrained();
  }

  /** Frees what closed groups still have, now that their native threads have ended: threads may be late on a busy host. */
  static #freeEnded(): void {
    for (const [group, works] of unfreed) {
      if (group.#symbols.c10d_close(group.#handle, 0) > 0) continue;
      unfreed.delete(group);
      group.#releaseAll(works);
    }
  }

  #releaseAll(works: Iterable<NativeWork>): void {
    for (const work of works) work.release();
    for (const listener of this.#freedListeners.splice(0)) listener();
  }

  /** Calls `listener` when the group has been closed and native code uses no memory of it any more. */
  whenFreed(listener: () => void): void {
    this.#freedListeners.push(listener);
  }

  /** Closes the group when its Worker exits, which does not cover termination: that runs no exit handlers. */
  #endWithWorker(hazard: string): void {
    this.#host.log(`this is a Worker, and ${hazard}`);
    unguarded.add(this);
    if (endIsWatched) return;
    endIsWatched = true;
    process.on("exit", closeUnguarded);
  }

  #keepUnfreed(): void {
    const works = new Set([...this.#works.values(), ...this.#released.values()]);
    unfreed.set(this, works);
    if (works.size === 0) return;
    const all = [...unfreed.values()].reduce((sum, { size }) => sum + size, 0);
    this.#host.log(
      `closed while the native library was still busy with ${works.size} ops: their buffers stay in memory until it is ` +
        `done with them (now those of ${all} ops)`,
    );
  }

  #hold(): void {
    if (this.#holding) return;
    this.#holding = true;
    busy.add(this);
    this.#socket?.ref();
  }

  #letGo(): void {
    if (!this.#holding) return;
    this.#holding = false;
    busy.delete(this);
    this.#socket?.unref();
  }
}

type Address = ArrayBufferView | number | null;

/** Native code refused an op. */
export class NativeRefusal extends Error {
  readonly failure: NativeFailure;

  constructor(failure: NativeFailure) {
    super(failure.text);
    this.failure = failure;
  }
}

let unsubmitted = 0;

/** An id for an op that native code does not know. */
export function unsubmittedId(): number {
  return Number.MAX_SAFE_INTEGER - unsubmitted++;
}

const DETACHED_TEXT =
  "a buffer was detached while native code was using it: its result is lost, other memory of the process may have been " +
  "damaged, and the group has failed. Do not transfer, post or resize a buffer before the Work of its op has ended, or " +
  "use memory that cannot be detached (dist.empty() or a SharedArrayBuffer); C10D_CHECK_DETACH=1 shows where that happens";
const DETACHED_FAILURE: NativeFailure = { ...ownFailure(Status.ABORTED, DETACHED_TEXT), isDetached: true };
const NO_FAILURE = ownFailure(Status.BACKEND, "the op ended without a reason");
const CLOSED_FAILURE = ownFailure(Status.CLOSED, "the group was closed");
const NOT_STARTED = ownFailure(Status.WAIT_TIMEOUT, "the op has not started: ops before it have not ended");

function closeUnguarded(): void {
  for (const group of unguarded) {
    group.abort("its Worker has ended");
    group.close();
  }
}

function eventBuffer(count: number): Int32Array<ArrayBuffer> {
  return new Int32Array(new ArrayBuffer(count * EventLayout.SIZE));
}

function readWide(words: Int32Array, at: number): number {
  return ((words[at + 1] ?? 0) >>> 0) * 2 ** 32 + ((words[at] ?? 0) >>> 0);
}
