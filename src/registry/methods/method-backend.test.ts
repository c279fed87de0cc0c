import { describe, expect, jest, test } from "bun:test";
import { ReduceOp } from "../../collectives/index.ts";
import { type CallTerms, NO_TENSORS, type OpCall, opCall } from "../../collectives/op-call.ts";
import type { OpName } from "../../collectives/op-table.ts";
import { OpType } from "../../collectives/op-type.ts";
import { DistError, DistNetworkError, InvalidArgumentError, UnsupportedOperationError } from "../../errors/index.ts";
import { type TensorView, viewTensor } from "../../tensor/index.ts";
import { failureOf, sourceOf, Work, type WorkInit } from "../../work/index.ts";
import { setGroupName } from "./group-names.ts";
import { MethodBackend } from "./method-backend.ts";
import type { MethodCall, MethodResult } from "./method-call.ts";

/** A backend whose ops do what the test specifies, and which records what it is called with. */
class Scripted extends MethodBackend {
  override readonly name = "scripted";
  override readonly capabilities = { ops: {}, reduceOps: {} };
  readonly got: unknown[][] = [];
  readonly failures: DistError[] = [];
  closings = 0;
  act: (call: MethodCall) => MethodResult = () => {};
  whenClosed: () => void | Promise<void> = () => {};
  atFailure: () => void = () => {};

  constructor() {
    super(1, 3);
  }

  override allReduce(...args: [TensorView, MethodCall]): MethodResult {
    return this.#note(args);
  }
  override allGather(...args: [readonly TensorView[], TensorView, MethodCall]): MethodResult {
    return this.#note(args);
  }
  override allGatherIntoTensor(...args: [TensorView, TensorView, MethodCall]): MethodResult {
    return this.#note(args);
  }
  override allReduceSparse(...args: [readonly TensorView[], readonly TensorView[], MethodCall]): MethodResult {
    return this.#note(args);
  }
  override send(...args: [TensorView, MethodCall]): MethodResult {
    return this.#note(args);
  }
  override recv(...args: [TensorView, MethodCall]): MethodResult {
    return this.#note(args);
  }
  override barrier(call: MethodCall): MethodResult {
    return this.#note([call]);
  }
  override monitoredBarrier(call: MethodCall): MethodResult {
    return this.#note([call]);
  }

  loseRank(rank: number): DistError {
    return this.fail(lost(rank));
  }

  get turns(): unknown[] {
    return this.got.map((args) => (args.at(-1) as MethodCall).turn);
  }

  protected override onFailure(error: DistError): void {
    this.failures.push(error);
    this.atFailure();
  }

  protected override onClose(): void | Promise<void> {
    this.closings++;
    return this.whenClosed();
  }

  #note(args: unknown[]): MethodResult {
    this.got.push(args);
    return this.act(args.at(-1) as MethodCall);
  }
}

const lost = (rank: number) => new DistNetworkError(`rank ${rank} is lost`, { code: "PEER_LOST", peers: [rank] });
const view = (length = 2): TensorView => viewTensor(new Float32Array(length));
const never = new Promise<never>(() => {});

interface Terms extends CallTerms {
  readonly inputs?: readonly TensorView[];
  readonly outputs?: readonly TensorView[];
  readonly timeoutMs?: number;
}

function call(op: OpName, terms: Terms = {}): OpCall {
  const { inputs = NO_TENSORS, outputs = NO_TENSORS, timeoutMs = 5_000 } = terms;
  return opCall(op, { type: "cpu", index: 0 }, inputs, outputs, timeoutMs, terms);
}

function submit(backend: MethodBackend, given: OpCall): Work<void> {
  const [work, ...others] = backend.submit([given]);
  if (work === undefined || others.length > 0) throw new Error("not one Work for one call");
  return work;
}

/** How a Work ended: the code of its error or `well`; `pending` before. */
const ending = (work: Work<unknown>): string => (work.isCompleted() ? (failureOf(work)?.code ?? "well") : "pending");

/** A Work that this thread can wait for. */
class Waitable extends Work<number> {
  synchronized = 0;
  readonly #outcome: DistError | undefined;
  constructor(init: WorkInit, outcome?: DistError) {
    super(init);
    this.#outcome = outcome;
  }
  override synchronize(): void {
    this.synchronized++;
  }
  protected override block(limitMs: number): void {
    if (limitMs < 1_000) throw this.waitTimeout(limitMs);
    this.settle(this.#outcome);
  }
}

describe("what a method receives", () => {
  test("is outputs, inputs and the call, each as one tensor or as a list", () => {
    const backend = new Scripted();
    const [a, b, c, d] = [view(), view(), view(), view()];
    submit(backend, call("allReduce", { outputs: [a], reduceOp: ReduceOp.MAX }));
    submit(backend, call("allGather", { outputs: [a, b, c], inputs: [d] }));
    submit(backend, call("allGatherIntoTensor", { outputs: [a], inputs: [d] }));
    submit(backend, call("allReduceSparse", { outputs: [a, b], inputs: [c, d], inputSplits: [1, 0, 2] }));
    submit(backend, call("send", { inputs: [a], peer: 2, tag: 7 }));
    submit(backend, call("recv", { outputs: [a], peer: 0 }));
    submit(backend, call("barrier"));
    expect(backend.got.map((args) => args.slice(0, -1))).toEqual([
      [a],
      [[a, b, c], d],
      [a, d],
      [
        [a, b],
        [c, d],
      ],
      [a],
      [a],
      [],
    ]);
    const calls = backend.got.map((args) => args.at(-1));
    expect(calls[0]).toMatchObject({ op: "allReduce", reduceOp: ReduceOp.MAX, timeoutMs: 5_000, turn: 1 });
    expect(calls[3]).toMatchObject({ inputSplits: [1, 0, 2], turn: 4 });
    expect(calls[4]).toMatchObject({ peer: 2, tag: 7, turn: -1 });
  });

  test("collectives and messages are numbered separately, both halves of a sparse all-reduce the same", () => {
    const backend = new Scripted();
    const sparse = { inputs: [view()], outputs: [view()] };
    const works = backend.submit([
      call("barrier"),
      call("send", { inputs: [view()], peer: 0 }),
      call("allReduceSparse", sparse),
      call("allReduceSparse", { ...sparse, continuation: true }),
      call("recv", { outputs: [view()] }),
      call("barrier"),
    ]);
    expect(works.map(({ seq }) => seq)).toEqual([1, 1, 2, 2, 2, 3]);
    expect(works.map(({ opType }) => opType)).toEqual([
      OpType.BARRIER,
      OpType.SEND,
      OpType.ALLREDUCE_SPARSE,
      OpType.ALLREDUCE_SPARSE,
      OpType.RECV_ANY_SOURCE,
      OpType.BARRIER,
    ]);
    expect(backend.turns).toEqual([1, -1, 2, 3, -1, 4]);
  });
});

describe("what a method returns", () => {
  test("nothing: the op is done", () => {
    const backend = new Scripted();
    const work = submit(backend, call("barrier"));
    expect([ending(work), backend.inFlight, work.wait()]).toEqual(["well", 0, true]);
  });

  test("a promise: the op is done with it, and wait() cannot block", async () => {
    const backend = new Scripted();
    const { promise, resolve } = Promise.withResolvers<void>();
    backend.act = () => promise;
    const work = submit(backend, call("barrier"));
    expect([ending(work), backend.inFlight]).toEqual(["pending", 1]);
    expect(() => work.wait()).toThrow(
      "barrier #1: wait() cannot block on this Work, whose steps run on this thread; await it",
    );
    work.synchronize();
    resolve();
    expect(await work).toBeUndefined();
    expect([backend.inFlight, backend.state]).toEqual([0, "OPEN"]);
  });

  test.each([
    [
      "at the call",
      {
        then: () => {
          throw new Error("no then today");
        },
      },
    ],
    [
      "when `then` is read",
      Object.defineProperty({}, "then", {
        get() {
          throw new Error("no then today");
        },
      }),
    ],
  ])("a thenable that throws %s: the op fails", async (_, thenable) => {
    const backend = new Scripted();
    backend.act = () => thenable as PromiseLike<void>;
    const work = submit(backend, call("barrier"));
    const error = await work.catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      name: "DistBackendError",
      code: "BACKEND_ERROR",
      message: "barrier #1 (scripted, rank 1 of 3): no then today",
      cause: { message: "no then today" },
    });
  });

  test("its own Work: the op ends with it, and a wait blocks on it", () => {
    const backend = new Scripted();
    const own = new Waitable({ opType: OpType.UNKNOWN });
    backend.act = () => own;
    const work = submit(backend, call("barrier"));
    expect(work).not.toBe(own);
    expect([work.opType, work.seq]).toEqual([OpType.BARRIER, 1]);
    work.synchronize();
    expect(own.synchronized).toBe(1);
    expect(() => work.wait({ timeout: 10 })).toThrow("barrier #1: waited 10 ms; the op is still pending");
    expect([ending(work), backend.inFlight]).toEqual(["pending", 1]);
    work.wait();
    expect([ending(own), ending(work), backend.inFlight]).toEqual(["well", "well", 0]);
  });

  test("a wait from within the end of its own Work sees the end of the op", () => {
    const backend = new Scripted();
    const error = lost(2);
    const own = new Waitable({ opType: OpType.BARRIER }, error);
    let seen: unknown;
    let work: Work<void> | undefined;
    own.whenEnded(() => {
      seen = work?.exception() ?? "pending";
      expect(() => work?.wait()).toThrow(error);
    });
    backend.act = () => own;
    work = submit(backend, call("barrier"));
    expect(() => own.wait()).toThrow(error);
    expect(seen).toBe("pending");
    expect.assertions(3);
  });

  test("one Work for several ops: each op has its own Work", () => {
    const backend = new Scripted();
    const own = Work.completed(undefined, { opType: OpType.BARRIER });
    backend.act = () => own;
    const [first, second] = backend.submit([call("barrier"), call("barrier")]);
    expect(first).not.toBe(second);
    expect([first?.seq, second?.seq]).toEqual([1, 2]);
  });

  test("its own Work that fails also fails the group", () => {
    const backend = new Scripted();
    const error = lost(2);
    backend.act = () => new Waitable({ opType: OpType.BARRIER }, error);
    const work = submit(backend, call("barrier"));
    expect(() => work.wait()).toThrow(error);
    expect([backend.state, backend.failures]).toEqual(["FAILED", [error]]);
  });

  test("the rank that a message comes from, as a number or by its Work", async () => {
    const backend = new Scripted();
    const recv = call("recv", { outputs: [view()] });
    backend.act = async () => 2;
    const promised = submit(backend, recv);
    await promised;
    backend.act = () => {
      const own = new Waitable({ opType: OpType.RECV });
      own.cameFrom(0);
      return own;
    };
    const waited = submit(backend, recv);
    waited.wait();
    expect([sourceOf(promised), sourceOf(waited)]).toEqual([2, 0]);
    backend.act = async () => 2;
    const barrier = submit(backend, call("barrier"));
    await barrier;
    expect(sourceOf(barrier)).toBe(-1);
  });
});

describe("an op that fails", () => {
  test.each<[string, (error: unknown) => MethodResult]>([
    [
      "throws",
      (error) => {
        throw error;
      },
    ],
    ["rejects", (error) => Promise.reject(error)],
  ])("a method that %s fails the group and all ops in flight", async (_, fail) => {
    const backend = new Scripted();
    backend.act = () => never;
    const other = submit(backend, call("send", { inputs: [view()], peer: 0 }));
    const error = lost(2);
    backend.act = () => fail(error);
    const work = submit(backend, call("barrier"));
    expect(await work.catch((reason: unknown) => reason)).toBe(error);
    expect(failureOf(other)).toBe(error);
    expect([backend.state, backend.inFlight, backend.failures]).toEqual(["FAILED", 0, [error]]);
    const late = submit(backend, call("barrier"));
    expect(failureOf(late)).toMatchObject({ code: "GROUP_FAILED", cause: error });
    expect(failureOf(late)?.message).toContain("barrier: the group has failed before (rank 2 is lost)");
    expect(backend.got).toHaveLength(2);
  });

  test("any other value becomes an error that names the op", async () => {
    const backend = new Scripted();
    backend.act = () => Promise.reject("out of paper");
    const error = await submit(backend, call("barrier")).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(DistError);
    expect(error).toMatchObject({
      message: "barrier #1 (scripted, rank 1 of 3): out of paper",
      cause: "out of paper",
      details: { backend: "scripted", op: "barrier", seq: 1, rank: 1 },
    });
  });

  test.each([InvalidArgumentError, UnsupportedOperationError])("%p fails only the op", async (Refusal) => {
    const backend = new Scripted();
    const error = new Refusal("not like this");
    backend.act = () => {
      throw error;
    };
    expect(failureOf(submit(backend, call("barrier")))).toBe(error);
    backend.act = () => Promise.reject(error);
    expect(await submit(backend, call("barrier")).catch((reason: unknown) => reason)).toBe(error);
    backend.act = () => {};
    expect([ending(submit(backend, call("barrier"))), backend.state, backend.failures]).toEqual(["well", "OPEN", []]);
    expect(backend.turns).toEqual([1, 2, 3]);
  });

  test("several at once end with the first cause; what comes after the end is ignored", async () => {
    const backend = new Scripted();
    const rejections: ((error: unknown) => void)[] = [];
    backend.act = () => new Promise((_, reject) => rejections.push(reject));
    const works = backend.submit([call("barrier"), call("barrier"), call("barrier")]);
    const errors = [lost(0), lost(1), lost(2)];
    for (const [i, reject] of rejections.entries()) reject(errors[i]);
    for (const work of works) expect(await work.catch((reason: unknown) => reason)).toBe(errors[0]);
    expect(backend.failures).toEqual(errors.slice(0, 1));
    expect(backend.loseRank(1)).toBe(errors[0] as DistError);
  });

  test.each<[string, () => void | Promise<void>]>([
    [
      "throws",
      () => {
        throw new Error("no end either");
      },
    ],
    ["rejects", () => Promise.reject(new Error("no end either"))],
  ])("an onFailure() that %s stops nothing, and becomes a warning", async (_, onFailure) => {
    class Bad extends MethodBackend {
      override readonly name = "bad";
      override readonly capabilities = { ops: { barrier: [] }, reduceOps: {} };
      override barrier(): never {
        throw new Error("no barrier");
      }
      protected override onFailure(): void | Promise<void> {
        return onFailure();
      }
    }
    const { promise: warned, resolve } = Promise.withResolvers<Error>();
    process.once("warning", resolve);
    const [work] = new Bad(0, 1).submit([call("barrier")]);
    expect(work?.exception()?.message).toBe("barrier #1 (bad, rank 0 of 1): no barrier");
    expect((await warned).message).toBe('backend "bad": onFailure() failed: no end either');
  });
});

describe("time-outs", () => {
  test("an op that is late fails the group", async () => {
    const backend = new Scripted();
    backend.act = () => never;
    const works = [submit(backend, call("barrier", { timeoutMs: 20 })), submit(backend, call("barrier"))];
    const error = await works[0]?.catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      name: "DistTimeoutError",
      code: "OP_TIMEOUT",
      message: "barrier #1 (scripted, rank 1 of 3): timed out after 20 ms",
      details: { backend: "scripted", op: "barrier", seq: 1, rank: 1, timeoutMs: 20 },
    });
    expect(works.map(ending)).toEqual(["OP_TIMEOUT", "OP_TIMEOUT"]);
    expect(backend.state).toBe("FAILED");
  });

  test("its error names the group, once a process group has the backend", async () => {
    const backend = new Scripted();
    setGroupName(backend, "7");
    backend.act = () => never;
    const error = await submit(backend, call("barrier", { timeoutMs: 20 })).catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      message: 'barrier #1 on group "7" (scripted, rank 1 of 3): timed out after 20 ms',
      details: { group: "7" },
    });
  });

  test("a monitored barrier enforces its own, since only it can name the missing ranks", async () => {
    const backend = new Scripted();
    const missing = new DistNetworkError("rank 2 did not come", { peers: [2] });
    backend.act = () => Bun.sleep(30).then(() => Promise.reject(missing));
    const work = submit(backend, call("monitoredBarrier", { timeoutMs: 5 }));
    expect(await work.catch((reason: unknown) => reason)).toBe(missing);
  });

  test("no timer is left, however the ops end", async () => {
    jest.useFakeTimers();
    try {
      const backend = new Scripted();
      submit(backend, call("barrier"));
      backend.act = async () => {};
      const promised = submit(backend, call("barrier"));
      backend.act = () => Work.completed(undefined, { opType: OpType.BARRIER });
      submit(backend, call("barrier"));
      backend.act = () => {
        throw new InvalidArgumentError("no");
      };
      submit(backend, call("barrier"));
      await promised;
      expect(jest.getTimerCount()).toBe(0);
      backend.act = () => never;
      submit(backend, call("barrier"));
      submit(backend, call("barrier", { timeoutMs: Number.POSITIVE_INFINITY }));
      expect(jest.getTimerCount()).toBe(2);
      backend.abort("enough");
      expect(jest.getTimerCount()).toBe(0);
    } finally {
      jest.useRealTimers();
    }
  });

  test("one that is longer than any timer is no limit, but keeps the process alive", async () => {
    const backend = new Scripted();
    backend.act = () => never;
    const works = [2 ** 31, Number.POSITIVE_INFINITY].map((timeoutMs) =>
      submit(backend, call("barrier", { timeoutMs })),
    );
    await Bun.sleep(10);
    expect(works.map(ending)).toEqual(["pending", "pending"]);
    backend.abort("enough");
  });
});

describe("the signal of a call", () => {
  test("is aborted with the error that the op ends with, and only then", async () => {
    const backend = new Scripted();
    const signals: AbortSignal[] = [];
    backend.act = ({ signal }) => {
      signals.push(signal);
      return signals.length === 1 ? Promise.resolve() : never;
    };
    const [done] = backend.submit([call("barrier"), call("barrier")]);
    await done;
    const error = backend.loseRank(0);
    expect(signals.map(({ aborted }) => aborted)).toEqual([false, true]);
    expect(signals[1]?.reason).toBe(error);
  });

  test("is already aborted if it is read too late", async () => {
    const backend = new Scripted();
    let seen: MethodCall | undefined;
    backend.act = (given) => {
      seen = given;
      return never;
    };
    submit(backend, call("barrier"));
    const error = backend.loseRank(0);
    expect(seen?.signal.reason).toBe(error);
    expect(() => seen?.signal.throwIfAborted()).toThrow(error);
  });

  test("a failure before the method returns ends its op, whatever it then returns", async () => {
    const backend = new Scripted();
    const unhandled: unknown[] = [];
    const note = (reason: unknown) => unhandled.push(reason);
    process.on("unhandledRejection", note);
    const ends: MethodResult[] = [
      undefined,
      Promise.reject(new Error("late")),
      Work.rejected(new Error("late"), { opType: OpType.BARRIER }),
    ];
    for (const result of ends) {
      const each = new Scripted();
      let error: DistError | undefined;
      let aborted = false;
      each.act = ({ signal }) => {
        signal.addEventListener("abort", () => {
          aborted = true;
        });
        error = each.loseRank(2);
        return result;
      };
      const work = submit(each, call("barrier"));
      expect(failureOf(work)).toBe(error as DistError);
      expect([aborted, each.inFlight, each.failures]).toEqual([true, 0, [error as DistError]]);
    }
    await Bun.sleep(5);
    process.off("unhandledRejection", note);
    expect([unhandled, backend.state]).toEqual([[], "OPEN"]);
  });
});

describe("refused calls", () => {
  test("take a turn each, so that the ranks stay in step, but no sequence number", () => {
    const backend = new Scripted();
    const [refused] = backend.submit([call("refused")]);
    expect(refused && ending(refused)).toBe("well");
    expect(refused?.seq).toBe(-1);
    const work = submit(backend, call("barrier"));
    expect([backend.turns, work.seq, backend.inFlight]).toEqual([[2], 1, 0]);
  });

  test("a missing method refuses its batch: nothing is started, and every collective takes its turn", () => {
    const backend = new Scripted();
    const works = backend.submit([
      call("barrier"),
      call("send", { inputs: [view()], peer: 0 }),
      call("broadcast", { outputs: [view()], root: 0 }),
      call("refused"),
    ]);
    expect(works).toHaveLength(4);
    expect(new Set(works).size).toBe(4);
    for (const work of works) {
      expect(failureOf(work)).toMatchObject({
        name: "UnsupportedOperationError",
        message: 'backend "scripted" does not implement broadcast',
        details: { backend: "scripted", op: "broadcast" },
      });
    }
    expect([backend.got, backend.state, backend.inFlight]).toEqual([[], "OPEN", 0]);
    submit(backend, call("barrier"));
    expect(backend.turns).toEqual([4]);
  });

  test("a batch runs in order; calls after a failure are not started", () => {
    const backend = new Scripted();
    backend.act = ({ turn }) => {
      if (turn === 2) throw lost(0);
      return turn === 1 ? never : undefined;
    };
    const works = backend.submit([call("barrier"), call("barrier"), call("barrier")]);
    expect(works.map(ending)).toEqual(["PEER_LOST", "PEER_LOST", "GROUP_FAILED"]);
    expect(backend.turns).toEqual([1, 2]);
  });

  test("an empty batch is nothing", () => {
    const backend = new Scripted();
    expect(backend.submit([])).toEqual([]);
    backend.abort("enough");
    expect(backend.submit([])).toEqual([]);
  });
});

describe("the end", () => {
  test("drained() waits for what is in flight, however it ends", async () => {
    const backend = new Scripted();
    await backend.drained();
    const ops = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    backend.act = () => ops[backend.got.length - 1]?.promise;
    const works = backend.submit([call("barrier"), call("barrier")]);
    let drained = false;
    const end = backend.drained().then(() => {
      drained = true;
    });
    ops[0]?.resolve();
    await works[0];
    await Bun.sleep(1);
    expect([drained, backend.inFlight]).toEqual([false, 1]);
    ops[1]?.reject(lost(0));
    await works[1]?.catch(() => {});
    await end;
  });

  test("close() aborts ops in flight, and runs once", async () => {
    const backend = new Scripted();
    backend.act = () => never;
    const released = Promise.withResolvers<void>();
    backend.whenClosed = () => released.promise;
    const work = submit(backend, call("barrier"));
    let ended = 0;
    const closings = [backend.close(), backend.close()].map((each) => each.then(() => ended++));
    expect([ending(work), backend.state, backend.failures.length]).toEqual(["ABORTED", "CLOSED", 1]);
    await Bun.sleep(1);
    expect(ended).toBe(0);
    released.resolve();
    await Promise.all(closings);
    await backend.close();
    expect([ended, backend.closings]).toEqual([2, 1]);
    const late = submit(backend, call("barrier"));
    expect(failureOf(late)).toMatchObject({ code: "GROUP_CLOSED" });
    expect(failureOf(late)?.message).toContain("barrier: the group is closed");
  });

  test("an idle group closes without a failure", async () => {
    const backend = new Scripted();
    await backend.close();
    expect([backend.state, backend.failures, backend.closings]).toEqual(["CLOSED", [], 1]);
    backend.abort("too late");
    expect([backend.state, backend.failures]).toEqual(["CLOSED", []]);
  });

  test("a failed group can be closed, and a method that is still running changes nothing", async () => {
    const backend = new Scripted();
    const { promise, reject } = Promise.withResolvers<void>();
    backend.act = () => promise;
    const work = submit(backend, call("barrier"));
    backend.abort("enough");
    await backend.close();
    reject(lost(1));
    await Bun.sleep(1);
    expect([ending(work), backend.state, backend.failures.length, backend.closings]).toEqual([
      "ABORTED",
      "CLOSED",
      1,
      1,
    ]);
  });

  test("close() rejects with what onClose() throws", async () => {
    const backend = new Scripted();
    backend.whenClosed = () => {
      throw new Error("stuck");
    };
    const error = await backend.close().catch((reason: Error) => reason);
    expect([error, backend.state]).toMatchObject([{ message: "stuck" }, "CLOSED"]);
  });

  test("a listener that closes the group while it fails leaves nothing pending", async () => {
    const backend = new Scripted();
    backend.act = () => never;
    const works = backend.submit([call("barrier"), call("barrier")]);
    works[0]?.whenEnded(() => void backend.close());
    backend.loseRank(2);
    expect([works.map(ending), backend.inFlight, backend.state]).toEqual([["PEER_LOST", "PEER_LOST"], 0, "CLOSED"]);
  });
});
