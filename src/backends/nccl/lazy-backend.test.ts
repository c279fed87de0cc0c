import { describe, expect, test } from "bun:test";
import { type CallTerms, type OpCall, opCall } from "../../collectives/op-call.ts";
import type { OpName } from "../../collectives/op-table.ts";
import { ReduceOp } from "../../collectives/reduce-op.ts";
import {
  DistBackendError,
  type DistError,
  DistNetworkError,
  DistTimeoutError,
  InvalidArgumentError,
} from "../../errors/index.ts";
import type { Logger } from "../../registry/index.ts";
import { ANY_INDEX, type Device, type TensorView } from "../../tensor/index.ts";
import { ManualClock } from "../../testing/manual-clock.ts";
import type { Work } from "../../work/index.ts";
import { capabilities } from "./capabilities.ts";
import { fakeCreations, settled } from "./fixtures/fake-communicators.ts";
import { FakeStreams } from "./fixtures/fake-streams.ts";
import { LazyBackend } from "./lazy-backend.ts";

const cuda = (index: number): Device => ({ type: "cuda", index });
const HOUR_MS = 3_600_000;

function viewOn(device: Device): TensorView {
  return { source: new Float32Array(1), data: undefined, ptr: 64, dtype: "float32", length: 1, byteLength: 4, device };
}

function call(op: OpName, index = 0, timeoutMs = HOUR_MS, terms: CallTerms = {}): OpCall {
  const views = op === "barrier" || op === "refused" ? [] : [viewOn(cuda(index))];
  const [inputs, outputs] = op === "send" ? [views, []] : [[], views];
  return opCall(op, cuda(index), inputs, outputs, timeoutMs, { reduceOp: ReduceOp.SUM, ...terms });
}

/** Rank 2 of 4, on two devices. */
function made(device = cuda(ANY_INDEX), rank = 2, timeoutMs = 60_000) {
  const { connect, all } = fakeCreations();
  const clock = new ManualClock();
  const warnings: string[] = [];
  const reports: string[] = [];
  const none = () => {};
  const logger: Logger = { debug: none, info: none, error: none, warn: (text: string) => void warnings.push(text) };
  const streams = new FakeStreams();
  const left: string[] = [];
  const context = { rank, size: 4, globalRanks: [4, 5, 6, 7], groupName: "7", device, timeoutMs, logger, clock };
  const backend = new LazyBackend(context, {
    name: "nccl",
    capabilities,
    connect,
    report: (reason) => reports.push(reason),
    leave: async (made) => void left.push(...made),
    streams,
    deviceCount: 2,
  });
  const failures: string[] = [];
  backend.whenFailed((reason) => failures.push(reason));
  const submit = (...calls: readonly OpCall[]) => backend.submit(calls) as readonly [Work<void>, ...Work<void>[]];
  const creation = (i: number) => {
    const found = all[i];
    if (found === undefined) throw new RangeError(`only ${all.length} communicators were begun`);
    return found;
  };
  return { backend, submit, creation, all, clock, warnings, failures, reports, streams, left };
}

const ends = (work: Work<void>): Promise<DistError | undefined> =>
  new Promise((resolve) => work.whenEnded(() => resolve(work.exception())));

describe("communicators of devices", () => {
  test("are made by the first op on each, with PyTorch's keys, and get the ops in their order", async () => {
    const { submit, creation, all, backend } = made();
    expect(all).toHaveLength(0);
    const [first] = submit(call("allReduce", 1));
    const [second] = submit(call("broadcast", 1, HOUR_MS, { root: 0 }));
    const batch = submit(call("allReduce", 1), call("allReduce", 1));
    const [other] = submit(call("allReduce", 0));
    expect(all.map(({ plan: { device, idKey, pair } }) => [device.index, idKey, pair])).toEqual([
      [1, "0", undefined],
      [0, "1", undefined],
    ]);
    expect([first.seq, second.seq, ...batch.map(({ seq }) => seq), other.seq]).toEqual([1, 2, 3, 4, 1]);
    expect([backend.state, backend.inFlight]).toEqual(["OPEN", 5]);
    expect(first.hasStarted).toBe(false);
    const communicator = await creation(0).finish();
    expect(communicator.batches.map((calls) => calls.map(({ op }) => op))).toEqual([
      ["allReduce"],
      ["broadcast"],
      ["allReduce", "allReduce"],
    ]);
    expect(first.isCompleted()).toBe(false);
    communicator.works[0]?.settle();
    expect([first.isSuccess(), second.isCompleted(), backend.inFlight]).toEqual([true, false, 4]);
    second.wait();
    expect(communicator.works[1]?.waits).toBe(1);
    // What comes later goes there directly.
    const [direct] = submit(call("allReduce", 1));
    expect(direct).toBe(communicator.works.at(-1) as Work<void>);
  });

  test("an op that has waited keeps the rest of its time-out", async () => {
    const { submit, creation } = made();
    submit(call("allReduce", 0, 50_000));
    await Bun.sleep(20);
    const { batches } = await creation(0).finish();
    const left = batches[0]?.[0]?.timeoutMs ?? 0;
    expect(left).toBeLessThanOrEqual(49_985);
    expect(left).toBeGreaterThan(40_000);
  });

  test("what is submitted while waiting ops are passed on follows them", async () => {
    const { submit, creation } = made();
    const order: string[] = [];
    const [first] = submit(call("allReduce"));
    submit(call("broadcast", 0, HOUR_MS, { root: 0 }));
    const communicator = creation(0).finish();
    const submitLate = () => void submit(call("barrier"));
    queueMicrotask(submitLate);
    const { batches } = await communicator;
    for (const [each] of batches) order.push(each?.op ?? "");
    expect(order).toEqual(["allReduce", "broadcast", "barrier"]);
    expect(first.isCompleted()).toBe(false);
  });

  test("wait() on an op that waits would deadlock, and says what to do", async () => {
    const { submit, creation } = made();
    const [work] = submit(call("allReduce"));
    expect(() => work.wait()).toThrow("await the Work, or connect first");
    expect(() => work.wait({ timeout: 10 })).toThrow(expect.objectContaining({ code: "WAIT_WOULD_DEADLOCK" }));
    expect(() => work.synchronize()).toThrow(expect.objectContaining({ code: "NOT_SUBMITTED" }));
    expect(() => work.synchronize()).toThrow("no stream can wait for the op: await the Work, or connect first");
    expect(work.isCompleted()).toBe(false);
    await creation(0).finish();
    expect(work.wait()).toBe(true);
  });

  test("a batch has tensors on one device", async () => {
    const { submit, all } = made();
    const works = submit(call("allReduce", 0), call("allReduce", 1));
    expect(all).toHaveLength(0);
    for (const work of works) {
      expect(await ends(work)).toBeInstanceOf(InvalidArgumentError);
      expect(work.exception()?.message).toStartWith("Tensors must be on the same device: a batch has some on cuda:0");
    }
  });

  test("timing is turned on for those that are made later, too", async () => {
    const { backend, submit, creation } = made();
    submit(call("allReduce", 0));
    backend.enableTiming();
    submit(call("allReduce", 1));
    expect((await creation(0).finish()).isTimed).toBe(true);
    expect((await creation(1).finish()).isTimed).toBe(true);
  });
});

describe("a barrier", () => {
  test("is on the device that the call names, else on that used first", async () => {
    const { submit, all, warnings, creation } = made();
    submit(call("barrier", 1));
    submit(call("barrier", ANY_INDEX));
    const { batches } = await creation(0).finish();
    expect(all).toHaveLength(1);
    expect(batches.map(([each]) => each?.device)).toEqual([cuda(1), cuda(1)]);
    expect(warnings).toEqual([]);
  });

  test("is on one by the global rank, with a warning, before any other op", async () => {
    const { submit, all, warnings } = made(cuda(ANY_INDEX), 3);
    submit(call("barrier", ANY_INDEX));
    expect(all.map(({ plan }) => plan.device)).toEqual([cuda(1)]);
    expect(warnings.join()).toContain("it uses cuda:1, by the rank");
  });

  test("is on the device that the group is bound to", async () => {
    const { submit, all, warnings } = made(cuda(0), 3);
    submit(call("barrier", 0));
    expect(all.map(({ plan }) => plan.device)).toEqual([cuda(0)]);
    expect(warnings).toEqual([]);
  });
});

describe("single messages", () => {
  test("have a communicator for each pair of ranks; those of a batch have that of the group", async () => {
    const { submit, creation, all } = made();
    const [send] = submit(call("send", 0, HOUR_MS, { peer: 0 }));
    const [recv] = submit(call("recv", 0, HOUR_MS, { peer: 3 }));
    submit(call("send", 0, HOUR_MS, { peer: 0, batched: true }));
    submit(call("recv", 0, HOUR_MS, { peer: 1 }), call("send", 0, HOUR_MS, { peer: 1 }));
    expect(all.map(({ plan: { idKey, pair } }) => [idKey, pair])).toEqual([
      ["0:2", { low: 0, high: 2, size: 4 }],
      ["2:3", { low: 2, high: 3, size: 4 }],
      ["0", undefined],
    ]);
    const [low, high] = [await creation(0).finish(), await creation(1).finish()];
    expect([low.batches[0]?.[0]?.peer, high.batches[0]?.[0]?.peer]).toEqual([0, 1]);
    low.works[0]?.settle();
    high.works[0]?.cameFrom(1);
    high.works[0]?.settle();
    expect([send.isSuccess(), recv.isSuccess(), recv.sourceRank()]).toEqual([true, true, 3]);
    const whole = await creation(2).finish();
    expect(whole.batches.map((calls) => calls.map(({ peer }) => peer))).toEqual([[0], [1, 1]]);
    // Later ones, too.
    const [later] = submit(call("recv", 0, HOUR_MS, { peer: 0 }));
    low.works[1]?.cameFrom(0);
    low.works[1]?.settle();
    expect(later.sourceRank()).toBe(0);
  });

  test("errors name ranks of the group", async () => {
    const { submit, creation } = made();
    const [recv] = submit(call("recv", 0, HOUR_MS, { peer: 3 }));
    const { works } = await creation(0).finish();
    const message = 'recv #1 on group "7" (nccl, rank 0 of 2): rank 1 has left; ranks 0 and 1 of it waited';
    works[0]?.settle(new DistNetworkError(message, { code: "PEER_LOST", rank: 0, peers: [1], op: "recv" }));
    const error = await ends(recv);
    expect(error).toBeInstanceOf(DistNetworkError);
    expect(error).toMatchObject({
      code: "PEER_LOST",
      message: 'recv #1 on group "7" (nccl, rank 2 of 4): rank 3 has left; ranks 2 and 3 of it waited',
      details: { rank: 2, peers: [3], op: "recv" },
    });
  });

  test("a pair has one device", async () => {
    const { submit, all } = made();
    submit(call("send", 0, HOUR_MS, { peer: 1 }));
    const [other] = submit(call("send", 1, HOUR_MS, { peer: 1 }));
    expect((await ends(other))?.message).toContain("single messages with rank 1 are on cuda:0");
    expect(all).toHaveLength(1);
  });
});

describe("a communicator that cannot be made", () => {
  const timeout = new DistTimeoutError('group "7" (nccl, rank 2 of 4): rank 3 did not arrive', {
    code: "CONNECT_TIMEOUT",
    peers: [3],
  });

  test("fails its ops, with the missing rank, and the group", async () => {
    const { backend, submit, creation, failures } = made();
    const works = [...submit(call("allReduce")), ...submit(call("barrier"))];
    const [elsewhere] = submit(call("allReduce", 1));
    const [message] = submit(call("send", 0, HOUR_MS, { peer: 0 }));
    const open = await creation(1).finish();
    await creation(0).reject(timeout);
    for (const [i, work] of works.entries()) {
      const error = await ends(work);
      expect(error).toBeInstanceOf(DistTimeoutError);
      const op = ["allReduce", "barrier"][i];
      expect(error).toMatchObject({
        code: "OP_TIMEOUT",
        details: { op, peers: [3], group: "7", rank: 2 },
        cause: timeout,
      });
      expect(error?.message).toStartWith(`${op}: the communicator on cuda:0 could not be made: `);
    }
    expect(open.aborted).toBe(timeout.message);
    expect(await ends(elsewhere)).toMatchObject({ code: "ABORTED" });
    expect(await ends(message)).toMatchObject({ code: "ABORTED" });
    expect(creation(2).plan.signal.aborted).toBe(true);
    expect([backend.state, failures]).toEqual(["FAILED", [timeout.message]]);
    const [late] = submit(call("allReduce"));
    expect(await ends(late)).toMatchObject({ code: "GROUP_FAILED" });
  });

  test("of a pair names its ranks in the group", async () => {
    const { submit, creation } = made();
    const [work] = submit(call("send", 0, HOUR_MS, { peer: 3 }));
    await creation(0).reject(new DistTimeoutError("rank 1 did not arrive", { code: "CONNECT_TIMEOUT", peers: [1] }));
    expect(await ends(work)).toMatchObject({ code: "OP_TIMEOUT", details: { peers: [3], rank: 2 } });
    expect(work.exception()?.message).toBe(
      "send: the communicator on cuda:0, for messages between ranks 2 and 3, could not be made: rank 3 did not arrive",
    );
  });

  test("by an error of another kind is a backend error", async () => {
    const { submit, creation } = made();
    const [work] = submit(call("allReduce"));
    const cause = new RangeError("no room");
    await creation(0).reject(cause);
    const error = await ends(work);
    expect(error).toBeInstanceOf(DistBackendError);
    expect(error?.message).toContain("its communicator on cuda:0 could not be made: no room");
  });

  test.each([
    ["the group's", HOUR_MS, 60_000],
    ["its first op's", 1_000, 1_000],
  ])("has the shorter time-out: %s", (_, opMs, expected) => {
    const { submit, creation } = made();
    submit(call("allReduce", 0, opMs));
    expect(creation(0).plan.timeoutMs).toBe(expected);
  });

  test("an op with less time left than the creation ends it", async () => {
    const { submit, creation, clock, backend, failures } = made();
    const [first] = submit(call("allReduce"));
    const [short] = submit(call("barrier", 0, 500));
    clock.advance(499);
    expect(short.isCompleted()).toBe(false);
    clock.advance(1);
    expect(await ends(short)).toMatchObject({ code: "OP_TIMEOUT", details: { op: "barrier", timeoutMs: 500 } });
    expect(await ends(first)).toMatchObject({ code: "OP_TIMEOUT", details: { op: "allReduce" } });
    expect([backend.state, failures.length, creation(0).plan.signal.aborted]).toEqual(["FAILED", 1, true]);
    // The creation that was given up ends later.
    const late = await creation(0).finish();
    expect([late.closed, late.batches.length]).toEqual([1, 0]);
  });

  test("the timer of an op that was passed on does nothing", async () => {
    const { submit, creation, clock, backend } = made();
    submit(call("allReduce"));
    submit(call("barrier", 0, 500));
    await creation(0).finish();
    clock.advance(1_000);
    expect(backend.state).toBe("OPEN");
  });
});

describe("the end of the group", () => {
  test("a communicator that fails fails the others, and refuses later ops", async () => {
    const { backend, submit, creation, failures, reports } = made();
    submit(call("allReduce", 0));
    submit(call("allReduce", 1));
    submit(call("send", 0, HOUR_MS, { peer: 1 }));
    const [one, two] = [await creation(0).finish(), await creation(1).finish()];
    one.fail(new DistNetworkError("rank 1 has died", { code: "PEER_LOST" }));
    expect([two.aborted, creation(2).plan.signal.aborted]).toEqual(["rank 1 has died", true]);
    expect([backend.state, failures, reports]).toEqual(["FAILED", ["rank 1 has died"], []]);
    const [refused] = backend.refuse([call("allReduce")]) ?? [];
    expect(refused?.exception()?.message).toBe("it knows more");
  });

  test("abort() ends what waits at once, in every phase", async () => {
    const { backend, submit, creation, failures } = made();
    const [running] = submit(call("allReduce", 0));
    const open = await creation(0).finish();
    const [waiting] = submit(call("allReduce", 1));
    backend.abort("enough");
    for (const work of [running, waiting]) expect(work.exception()).toMatchObject({ code: "ABORTED" });
    expect([open.aborted, backend.state, backend.inFlight, failures]).toEqual(["enough", "FAILED", 0, ["enough"]]);
    const late = await creation(1).finish();
    expect(late.closed).toBe(1);
    backend.abort("again");
    expect(failures).toEqual(["enough"]);
  });

  test("abort() before the first op leaves nothing to make", async () => {
    const { backend, submit, all, reports } = made();
    backend.abort("enough");
    expect(reports).toEqual(["enough"]);
    expect(backend.state).toBe("FAILED");
    const [late] = submit(call("allReduce"));
    expect(await ends(late)).toMatchObject({ code: "GROUP_FAILED" });
    expect(all).toHaveLength(0);
  });

  test("drained() waits for those that wait, and for those that run", async () => {
    const { backend, submit, creation } = made();
    await backend.drained();
    const [work] = submit(call("allReduce"));
    let isDrained = false;
    const drained = backend.drained().then(() => {
      isDrained = true;
    });
    await settled();
    expect(isDrained).toBe(false);
    const { works } = await creation(0).finish();
    await settled();
    expect(isDrained).toBe(false);
    works[0]?.settle();
    await drained;
    expect(work.isSuccess()).toBe(true);
  });

  test("close() closes what is open and cancels what is being made", async () => {
    const { backend, submit, creation, left } = made();
    submit(call("allReduce", 0));
    const open = await creation(0).finish();
    const [waiting] = submit(call("allReduce", 1));
    const closing = backend.close();
    expect(backend.state).toBe("CLOSED");
    expect(waiting.exception()).toMatchObject({ code: "ABORTED" });
    expect(creation(1).plan.signal.aborted).toBe(true);
    await creation(1).reject(new DistBackendError("cancelled"));
    await closing;
    expect([open.closed, left]).toEqual([1, ["0"]]);
    await backend.close();
    expect(open.closed).toBe(1);
  });

  test("close() does not wait forever for a creation that it has cancelled", async () => {
    const { backend, submit } = made();
    submit(call("allReduce"));
    const began = performance.now();
    await backend.close();
    expect(performance.now() - began).toBeLessThan(5_000);
  });
});

test("a refused collective takes its turn where others count theirs, and begins no communicator", async () => {
  const { submit, creation, all } = made();
  const [before] = submit(call("refused"));
  expect([before.isSuccess(), all.length]).toEqual([true, 0]);
  submit(call("allReduce"));
  submit(call("refused"));
  const { batches } = await creation(0).finish();
  expect(batches.map(([each]) => each?.op)).toEqual(["allReduce", "refused"]);
});

test("a device that is not there is refused, takes a turn, and begins no communicator", async () => {
  const { submit, creation, all, backend, failures } = made();
  const [first] = submit(call("barrier", 9));
  expect(await ends(first)).toMatchObject({
    name: "InvalidArgumentError",
    code: "NO_SUCH_DEVICE",
    message: "barrier: there is no cuda:9; this process has cuda:0 to cuda:1",
    details: { argument: "deviceIds" },
  });
  expect([all.length, backend.state]).toEqual([0, "OPEN"]);
  submit(call("allReduce", 1));
  const batch = submit(call("allReduce", 1), call("allReduce", 2));
  const [message] = submit(call("send", 2, HOUR_MS, { peer: 0 }));
  for (const work of [...batch, message]) expect(await ends(work)).toMatchObject({ code: "NO_SUCH_DEVICE" });
  const { batches } = await creation(0).finish();
  expect(batches.map(([each]) => each?.op)).toEqual(["allReduce", "refused"]);
  expect([all.length, backend.state, failures]).toEqual([1, "OPEN", []]);
});
