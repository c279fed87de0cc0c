import { dlopen, type Pointer, toArrayBuffer } from "bun:ffi";
import { describe, expect, spyOn, test } from "bun:test";
import { OpType } from "../collectives/op-type.ts";
import { DistBackendError } from "../errors/index.ts";
import { CPU, viewTensor } from "../tensor/index.ts";
import { EventFlag, EventKind, EventLayout, FailureLayout, Status } from "./abi.generated.ts";
import type { Shim } from "./library.ts";
import type { NativeFailure } from "./native-failure.ts";
import { NativeGroup, type NativeGroupHost } from "./native-group.ts";
import { NativeWork } from "./native-work.ts";
import type { ShimSymbols } from "./shim-symbols.ts";
import { copyBytesOf } from "./staging-area.ts";

const libc = dlopen("libc.so.6", {
  socketpair: { args: ["i32", "i32", "i32", "ptr"], returns: "i32" },
  write: { args: ["i32", "ptr", "u64"], returns: "i64" },
  close: { args: ["i32"], returns: "i32" },
}).symbols;

const AF_UNIX = 1;
const SOCK_STREAM_NONBLOCK_CLOEXEC = 1 | 0o4000 | 0o2000000;

/** A shim in memory: the test adds events, and the group drains them. */
class FakeShim implements Shim {
  readonly name = "fake";
  readonly path = "";
  readonly version = "0";
  readonly abi = 0;
  readonly copyBytes = copyBytesOf("libc.so.6");
  readonly aborts: string[] = [];
  /** Number of events at each drain. */
  readonly abortsAtDrains: number[] = [];
  readonly events: {
    kind: number;
    id: number;
    status: number;
    flags?: number;
    peer?: number;
    times?: readonly [startedNs: number, finishedNs: number];
  }[] = [{ kind: EventKind.READY, id: 0, status: 0 }];
  readonly afterClose: string[] = [];
  stillRunning = 0;
  /** Limit of each call of close, in milliseconds. */
  readonly closes: number[] = [];
  waitStatus: number = Status.OK;
  errorText = "";
  /** Fields of the next failures, by their offsets, and the ranks of their tables. */
  failureFields: Readonly<Record<number, number>> = {};
  failureRanks: readonly number[] = [];
  /** Status of the last op that failed. */
  #failed: number = Status.OK;
  #closed = false;
  readonly #ownFd: number;
  readonly symbols: ShimSymbols;

  constructor() {
    const fds = new Int32Array(new ArrayBuffer(8));
    expect(libc.socketpair(AF_UNIX, SOCK_STREAM_NONBLOCK_CLOEXEC, 0, fds)).toBe(0);
    const [hostFd = -1, ownFd = -1] = fds;
    this.#ownFd = ownFd;
    const called = (name: string): void => {
      if (this.#closed) this.afterClose.push(name);
    };
    this.symbols = {
      c10d_abi_version: () => 0,
      c10d_probe: () => 0,
      c10d_last_failure: () => Status.OK,
      c10d_clock_ns: () => 0,
      c10d_create: () => 1 as never,
      c10d_split: () => null,
      c10d_group_capabilities: () => {},
      c10d_wake_fd: () => hostFd,
      c10d_drain: (_, to, __, max) => {
        called("drain");
        this.abortsAtDrains.push(this.aborts.length);
        const words = to as Int32Array;
        const batch = this.events.splice(0, max);
        for (const [i, { kind, id, status, flags = 0, peer = -1, times = [0, 0] }] of batch.entries()) {
          const at = (i * EventLayout.SIZE) / 4;
          words.fill(0, at, at + EventLayout.SIZE / 4);
          words[at + EventLayout.kind / 4] = kind;
          words[at + EventLayout.id / 4] = id;
          words[at + EventLayout.status / 4] = status;
          if (status < 0) this.#failed = status;
          words[at + EventLayout.peer / 4] = peer;
          words[at + EventLayout.startedNs / 4] = times[0];
          words[at + EventLayout.finishedNs / 4] = times[1];
          words[at + EventLayout.flags / 4] = flags;
        }
        return batch.length;
      },
      c10d_exchange_read: () => 0,
      c10d_exchange_reply: () => 0,
      c10d_submit: () => 0,
      c10d_submit_one: () => 0,
      c10d_skip_turn: () => called("skip_turn"),
      c10d_kick: () => called("kick"),
      c10d_wait: () => {
        called("wait");
        return this.waitStatus;
      },
      c10d_synchronize: () => Status.OK,
      c10d_op_started: () => 0,
      c10d_take_failure: (_, __, to) => {
        called("take_failure");
        return this.#fail(to as Int32Array);
      },
      c10d_window_address: () => 0,
      c10d_group_state: () => 1,
      c10d_abort: (_, __, reason) => {
        called("abort");
        this.aborts.push(new TextDecoder().decode(reason as Uint8Array));
      },
      c10d_group_stats: () => called("stats"),
      c10d_close: (_, limitMs) => {
        this.closes.push(limitMs);
        this.#closed = true;
        return this.stillRunning;
      },
    };
  }

  /** Fills in a `c10d_failure`. */
  #fail(words: Int32Array): number {
    const text = new Uint8Array(
      toArrayBuffer(Number(new BigUint64Array(words.buffer)[FailureLayout.text / 8]) as Pointer, 0, 256),
    );
    words[FailureLayout.status / 4] = this.#failed;
    words[FailureLayout.textBytes / 4] = new TextEncoder().encodeInto(this.errorText, text).written;
    if (this.failureRanks.length > 0) {
      const table = Number(new BigUint64Array(words.buffer)[FailureLayout.ranks / 8]) as Pointer;
      new Int32Array(toArrayBuffer(table, 0, 4096)).set(this.failureRanks);
      words[FailureLayout.rankCount / 4] = this.failureRanks.length;
    }
    for (const [offset, value] of Object.entries(this.failureFields)) words[Number(offset) / 4] = value;
    return this.#failed;
  }

  complete(...ids: number[]): void {
    this.events.push(...ids.map((id) => ({ kind: EventKind.COMPLETE, id, status: Status.OK })));
  }

  /** Makes the group drain, through the event loop. */
  wake(): void {
    libc.write(this.#ownFd, new Uint8Array(1), 1);
  }

  [Symbol.dispose](): void {
    libc.close(this.#ownFd);
  }
}

const NONE = { inputs: [], outputs: [] };
const logged: string[] = [];
const host: NativeGroupHost = {
  storeSet: () => Promise.resolve(),
  storeGet: () => Promise.resolve(new Uint8Array()),
  log: (text) => void logged.push(text),
  errorNow: ({ text }) => new DistBackendError(text),
  errorAfterConsulting: () => Promise.withResolvers<DistBackendError>().promise,
  creationError: async ({ text }) => new DistBackendError(text),
  watchCreation: () => ({ [Symbol.dispose]: () => {} }),
  failed: () => {},
};

/** A host whose ranks agree at once. */
const detachHost: NativeGroupHost = {
  ...host,
  errorNow: (failure) => detachError(failure),
  errorAfterConsulting: async (failure) => detachError(failure),
};

function detachError({ text, isDetached }: NativeFailure): DistBackendError {
  return new DistBackendError(text, { code: isDetached ? "DETACHED_BUFFER" : "BACKEND_ERROR" });
}

async function start(
  shim: FakeShim,
  its: NativeGroupHost = host,
  worldSize = 1,
): Promise<{ group: NativeGroup; track: (id: number) => NativeWork }> {
  const config = { rank: 0, worldSize, device: CPU, timeoutMs: 1_000, options: {} };
  shim.wake();
  const group = await NativeGroup.create(shim, config, its);
  const track = (id: number) => {
    const work = new NativeWork(group, { opType: OpType.BARRIER, seq: id, id, tensors: NONE });
    group.track(work);
    return work;
  };
  return { group, track };
}

describe("impossible reports of a shim", () => {
  /** The failure that an op ends with when the shim reports this. */
  async function failureBy(shim: FakeShim): Promise<NativeFailure | undefined> {
    const its = { ...host, errorAfterConsulting: async ({ text }: NativeFailure) => new DistBackendError(text) };
    const { group, track } = await start(shim, its, 3);
    const work = track(1);
    shim.events.push({ kind: EventKind.COMPLETE, id: 1, status: Status.NETWORK });
    shim.wake();
    await work.catch(() => {});
    group.close();
    return work.failure;
  }

  test("ranks outside the group, and repeated ranks, are not named", async () => {
    using shim = new FakeShim();
    shim.failureRanks = [7, 2, -1, 3, 2];
    shim.failureFields = { [FailureLayout.peer]: 3 };
    expect(await failureBy(shim)).toMatchObject({ ranks: [2], peer: -1 });
    using other = new FakeShim();
    other.failureFields = { [FailureLayout.peer]: 2 };
    expect(await failureBy(other)).toMatchObject({ ranks: [], peer: 2 });
  });

  test("fields that it leaves out do not keep the values of the failure before", async () => {
    using before = new FakeShim();
    before.errorText = "out of memory";
    before.failureRanks = [1];
    before.failureFields = { [FailureLayout.systemError]: 12, [FailureLayout.peer]: 1 };
    expect(await failureBy(before)).toMatchObject({ systemError: 12, ranks: [1], peer: 1 });
    using shim = new FakeShim();
    expect(await failureBy(shim)).toMatchObject({ systemError: 0, ranks: [], peer: -1, text: "" });
  });

  test("counts beyond the capacity", async () => {
    using shim = new FakeShim();
    shim.failureFields = { [FailureLayout.rankCount]: -2, [FailureLayout.textBytes]: -1 };
    const failure = await failureBy(shim);
    expect(failure?.ranks.every((rank) => rank >= 0 && rank < 3)).toBe(true);
    expect(failure?.text).toHaveLength(4096);
  });

  test.each([
    [[2_000_000, 5_000_000], 3],
    [[0, 5_000_000], 0],
    [[5_000_000, 2_000_000], undefined],
    [[5_000_000, 0], undefined],
  ] as const)("times %p make %p ms", async (times, expected) => {
    using shim = new FakeShim();
    const { group } = await start(shim);
    const work = new NativeWork(group, { opType: OpType.BARRIER, seq: 1, id: 1, tensors: NONE, isTimed: true });
    group.track(work);
    shim.events.push({ kind: EventKind.COMPLETE, id: 1, status: Status.OK, times });
    shim.wake();
    await work;
    const { activeDuration, timeStarted, timeFinished } = work.info();
    // Unknown to the library: from the call to its end.
    const whole = (timeFinished?.getTime() ?? Number.NaN) - timeStarted.getTime();
    if (expected === undefined) expect(Math.abs(activeDuration - whole)).toBeLessThanOrEqual(1);
    else expect(activeDuration).toBe(expected);
    expect(activeDuration).toBeGreaterThanOrEqual(0);
    group.close();
  });

  test.each([
    [2, 2],
    [3, -1],
    [-4, -1],
  ])("a message from rank %p is from rank %p", async (peer, source) => {
    using shim = new FakeShim();
    const { group } = await start(shim, host, 3);
    const work = new NativeWork(group, { opType: OpType.RECV_ANY_SOURCE, seq: 1, id: 1, tensors: NONE });
    group.track(work);
    shim.events.push({ kind: EventKind.COMPLETE, id: 1, status: Status.OK, peer });
    shim.wake();
    await work;
    expect(work.sourceRank()).toBe(source);
    group.close();
  });
});

describe("NativeGroup", () => {
  test("a listener of an end may drain again, and no event of the batch is lost", async () => {
    using shim = new FakeShim();
    const { group, track } = await start(shim);
    const works = [1, 2, 3, 4, 5].map(track);
    works[0]?.whenEnded(() => {
      shim.complete(4, 5);
      group.unreportedFailure();
    });
    shim.complete(1, 2, 3);
    shim.wake();
    await group.drained();
    expect(works.map((work) => work.isSuccess())).toEqual([true, true, true, true, true]);
    group.close();
    expect(shim.afterClose).toEqual([]);
  });

  test("a listener of an end may wait for an op whose end is in the same batch", async () => {
    using shim = new FakeShim();
    const { group, track } = await start(shim);
    const works = [1, 2, 3, 4].map(track);
    shim.waitStatus = Status.UNKNOWN_OP;
    const ended: boolean[] = [];
    works[0]?.whenEnded(() => {
      ended.push(works[2]?.wait() ?? false);
      expect(() => works[3]?.wait()).toThrow("lost on the way");
    });
    shim.complete(1, 2, 3);
    shim.events.push({ kind: EventKind.COMPLETE, id: 4, status: Status.NETWORK });
    shim.errorText = "lost on the way";
    shim.wake();
    for (const work of works) await work.catch(() => {});
    expect(ended).toEqual([true]);
    expect(works.map((work) => work.isSuccess())).toEqual([true, true, true, false]);
    group.close();
  });

  test("a listener that throws does not lose the other events of the batch", async () => {
    using shim = new FakeShim();
    const { group, track } = await start(shim);
    const works = [1, 2, 3, 4].map(track);
    const broken = new Error("broken listener");
    const throwIt = () => {
      throw broken;
    };
    works[1]?.whenEnded(throwIt);
    // A result that cannot be delivered fails only its own op.
    const third = works[2];
    if (third !== undefined) third.succeed = throwIt;
    const thrown: unknown[] = [];
    const spy = spyOn(globalThis, "reportError").mockImplementation((error) => void thrown.push(error));
    shim.complete(1, 2, 3, 4);
    shim.wake();
    await group.drained();
    spy.mockRestore();
    expect(works.map((work) => work.isSuccess())).toEqual([true, true, false, true]);
    expect(third?.exception()).toBe(broken as never);
    expect([group.inFlight, thrown]).toEqual([0, [broken]]);
    group.close();
  });

  test("a listener of an end may close the group, after which nothing native is called", async () => {
    using shim = new FakeShim();
    const { group, track } = await start(shim);
    const [first, second, third] = [track(1), track(2), track(3)];
    first.whenEnded(() => group.close());
    shim.complete(1);
    shim.events.push({ kind: EventKind.COMPLETE, id: 2, status: Status.NETWORK });
    shim.wake();
    await group.drained();
    expect([first.isSuccess(), group.state, group.inFlight]).toEqual([true, "CLOSED", 0]);
    for (const work of [second, third]) {
      expect(() => work.wait()).toThrow("the group was closed");
      expect(await work.catch((error: unknown) => error)).toMatchObject({ message: "the group was closed" });
    }
    group.abort("too late");
    expect(group.stats().submitted).toBe(0);
    expect(shim.afterClose).toEqual([]);
  });

  test("the buffers of ops that native code never ends are kept, and that is logged", async () => {
    using shim = new FakeShim();
    const { group, track } = await start(shim);
    const works = [track(1), track(2)];
    shim.stillRunning = 2;
    logged.length = 0;
    group.close();
    expect(logged).toEqual([expect.stringContaining("still busy with 2 ops: their buffers stay in memory")]);
    for (const work of works) expect(() => work.wait()).toThrow("the group was closed");
  });

  test("a group whose threads had not ended when it was closed is freed once they have", async () => {
    using late = new FakeShim();
    late.stillRunning = 1;
    (await start(late)).group.close();
    expect(late.closes).toEqual([1_000]);
    using next = new FakeShim();
    const { group } = await start(next);
    expect(late.closes).toEqual([1_000, 0]);
    late.stillRunning = 0;
    group.close();
    expect([late.closes, next.closes]).toEqual([[1_000, 0, 0], [1_000]]);
    using last = new FakeShim();
    (await start(last)).group.close();
    expect(late.closes).toHaveLength(3);
  });

  test("a wait for a failed op, while the other ranks are asked about the cause, ends with the group", async () => {
    using shim = new FakeShim();
    const { group, track } = await start(shim);
    const work = track(1);
    shim.events.push({ kind: EventKind.COMPLETE, id: 1, status: Status.NETWORK });
    shim.wake();
    while (group.state !== "FAILED") await Bun.sleep(1);
    expect(work.isCompleted()).toBe(false);
    group.close();
    expect(() => work.wait()).toThrow(DistBackendError);
    expect([work.isCompleted(), work.isSuccess()]).toEqual([true, false]);
    expect(shim.afterClose).toEqual([]);
  });

  const noticed: readonly [string, (shim: FakeShim, work: NativeWork) => Promise<unknown>][] = [
    ["is kicked", async (_, work) => work.catch((error: unknown) => error)],
    [
      "ends",
      async (shim, work) => {
        await null;
        shim.wake();
        return work.catch((error: unknown) => error);
      },
    ],
    [
      "is waited for",
      async (_, work) => {
        try {
          return work.wait();
        } catch (error) {
          return error;
        }
      },
    ],
  ];
  test.each([...noticed])("a buffer that is detached when the op %s fails the op and the group", async (_, notice) => {
    using shim = new FakeShim();
    const { group } = await start(shim, detachHost);
    const [lost, kept] = [new Float32Array(2_000), new Float32Array(2_000)];
    const works = [kept, lost].map((array, i) => {
      const view = viewTensor(array);
      const init = {
        opType: OpType.ALLREDUCE,
        seq: i + 1,
        id: i + 1,
        tensors: { ...NONE, outputs: [view] },
        exposed: view,
      };
      const work = new NativeWork(group, init);
      group.track(work);
      return work;
    });
    const [other, work] = works;
    if (other === undefined || work === undefined) throw new Error("there are two");
    const moved = lost.buffer.transfer();
    shim.complete(2, 1);
    expect(await notice(shim, work)).toMatchObject({ code: "DETACHED_BUFFER" });
    shim.wake();
    await other;
    expect(shim.aborts.length).toBeGreaterThan(0);
    expect(shim.aborts[0]).toContain("allReduce #2: a buffer was detached while native code was using it");
    expect([group.state, moved.byteLength]).toEqual(["FAILED", 8_000]);
    group.close();
  });

  test("a buffer that a listener detaches is detected before the next batch of events is drained", async () => {
    using shim = new FakeShim();
    const { group, track } = await start(shim, detachHost);
    const works = Array.from({ length: 256 }, (_, i) => track(i + 1));
    const lost = new Float32Array(2_000);
    const view = viewTensor(lost);
    const last = new NativeWork(group, {
      opType: OpType.ALLREDUCE,
      seq: 257,
      id: 257,
      tensors: { ...NONE, outputs: [view] },
      exposed: view,
    });
    group.track(last);
    works[0]?.whenEnded(() => void lost.buffer.transfer());
    await null;
    shim.complete(...works.map(({ id }) => id), 257);
    const before = shim.abortsAtDrains.length;
    shim.wake();
    expect(await last.catch((error: unknown) => error)).toMatchObject({ code: "DETACHED_BUFFER" });
    // In a Worker, the second one may copy results back.
    expect(shim.abortsAtDrains.slice(before, before + 2)).toEqual([0, 1]);
    group.close();
  });

  test("a failure counts as reported when a wait() has thrown it, although the ranks are still being asked", async () => {
    using shim = new FakeShim();
    const { group, track } = await start(shim);
    const work = track(1);
    shim.events.push({ kind: EventKind.COMPLETE, id: 1, status: Status.NETWORK });
    expect(group.unreportedFailure()).toMatchObject({ status: Status.NETWORK });
    shim.waitStatus = Status.UNKNOWN_OP;
    expect(() => work.wait()).toThrow(DistBackendError);
    expect(group.unreportedFailure()).toBeUndefined();
    group.close();
  });

  test("copies that native code uses are released when it no longer uses them, not before", async () => {
    using shim = new FakeShim();
    const { group } = await start(shim, detachHost);
    const released: number[] = [];
    const track = (id: number) => {
      const staged = { copyBack: () => true, release: () => void released.push(id) };
      const work = new NativeWork(group, { opType: OpType.ALLREDUCE, seq: id, id, tensors: NONE, staged });
      work.catch(() => {});
      group.track(work);
    };
    for (const id of [1, 2, 3]) track(id);
    shim.complete(1);
    shim.events.push(
      { kind: EventKind.COMPLETE, id: 2, status: Status.NETWORK },
      { kind: EventKind.COMPLETE, id: 3, status: Status.NETWORK, flags: EventFlag.PINNED },
    );
    shim.wake();
    await group.drained();
    expect(released).toEqual([1, 2]);
    shim.events.push({ kind: EventKind.RELEASED, id: 3, status: Status.OK });
    group.unreportedFailure();
    expect(released).toEqual([1, 2, 3]);
    group.close();
  });

  test("copies of ops that were in flight when a group was closed are released once native code has freed it", async () => {
    using shim = new FakeShim();
    const { group } = await start(shim);
    let released = 0;
    const staged = { copyBack: () => true, release: () => void released++ };
    const work = new NativeWork(group, { opType: OpType.ALLREDUCE, seq: 1, id: 1, tensors: NONE, staged });
    work.catch(() => {});
    group.track(work);
    shim.stillRunning = 1;
    group.close();
    using next = new FakeShim();
    const other = await start(next);
    expect(released).toBe(0);
    shim.stillRunning = 0;
    other.group.close();
    expect(released).toBe(1);
  });
});
