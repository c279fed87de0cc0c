import { describe, expect, test } from "bun:test";
import { type OpCall, opCall } from "../../collectives/op-call.ts";
import { OpType } from "../../collectives/op-type.ts";
import { ReduceOp } from "../../collectives/reduce-op.ts";
import { DistBackendError, InvalidArgumentError } from "../../errors/index.ts";
import {
  currentStreamOf,
  type Device,
  type Stream,
  setCurrentStreamOf,
  TENSOR_HOLD,
  type TensorView,
} from "../../tensor/index.ts";
import { ManualClock } from "../../testing/manual-clock.ts";
import { Work } from "../../work/index.ts";
import { Communicator } from "./communicator.ts";
import { FakeCommunicator, settled } from "./fixtures/fake-communicators.ts";
import { FakeStreams } from "./fixtures/fake-streams.ts";

const device: Device = { type: "cuda", index: 0 };
const streamOf = (handle: number): Stream => ({ device, handle });

/** Memory that counts who holds it. */
class HeldMemory {
  holds = 0;
  isGone = false;

  [TENSOR_HOLD](): () => void {
    if (this.isGone) throw new InvalidArgumentError("it was disposed of", { code: "DISPOSED" });
    this.holds++;
    return () => void this.holds--;
  }

  call(stream?: Stream): OpCall {
    const view = {
      source: this as never,
      data: undefined,
      ptr: 64,
      dtype: "float32",
      length: 1,
      byteLength: 4,
      device,
    };
    return opCall("allReduce", device, [], [view as TensorView], 60_000, { reduceOp: ReduceOp.SUM, stream });
  }
}

/** Refuses what it gets. */
class RefusingCommunicator extends FakeCommunicator {
  override submit(calls: readonly OpCall[]): readonly Work<void>[] {
    super.submit(calls);
    if (this.state !== "OPEN")
      return calls.map(() => Work.rejected(new DistBackendError("it has failed before"), { opType: OpType.ALLREDUCE }));
    return calls.map(() =>
      Work.rejected(new InvalidArgumentError("no memory of a device"), { opType: OpType.ALLREDUCE }),
    );
  }
}

function made(backend = new FakeCommunicator()) {
  const streams = new FakeStreams();
  const { promise, resolve } = Promise.withResolvers<void>();
  const failures: string[] = [];
  const communicator = new Communicator({
    title: "cuda:0",
    idKey: "0",
    backend: "nccl",
    group: "7",
    rank: 0,
    device,
    streams,
    clock: new ManualClock(),
    limitMs: 60_000,
    connect: async () => {
      await promise;
      return backend;
    },
    pair: undefined,
    onFailed: (reason) => failures.push(reason),
  });
  const finish = async () => {
    resolve();
    await settled();
  };
  return { communicator, backend, streams, failures, finish };
}

describe("an op that waits for its communicator", () => {
  test("starts after what was in its stream at the call, and holds its memory meanwhile", async () => {
    const { communicator, backend, streams, finish } = made();
    const [first, second] = [new HeldMemory(), new HeldMemory()];
    communicator.submit([first.call(streamOf(5))]);
    communicator.submit([second.call(), second.call(streamOf(5))]);
    expect(streams.done).toEqual(["mark 5", "mark 0", "mark 5"]);
    expect([first.holds, second.holds, streams.marks]).toEqual([1, 2, 3]);
    await finish();
    expect(streams.done.slice(3)).toEqual(["100 waits for 5", "101 waits for 0", "101 waits for 5"]);
    expect(backend.batches.map((calls) => calls.map(({ stream }) => stream?.handle))).toEqual([[100], [101, 101]]);
    expect([first.holds, second.holds, streams.marks]).toEqual([0, 0, 0]);
  });

  test("lets go of its memory when the communicator is not made", async () => {
    const { communicator, streams, failures } = made();
    const memory = new HeldMemory();
    communicator.submit([memory.call()]);
    communicator.abort("no longer wanted");
    expect([memory.holds, streams.marks, failures]).toEqual([0, 0, ["no longer wanted"]]);
  });

  test("takes its turn if its memory is gone at the call", async () => {
    const { communicator, backend, failures, finish } = made();
    const memory = new HeldMemory();
    memory.isGone = true;
    const [work] = communicator.submit([memory.call()]);
    expect(work?.exception()?.code).toBe("DISPOSED");
    communicator.submit([new HeldMemory().call()]);
    await finish();
    expect(backend.batches.map((calls) => calls.map(({ op }) => op))).toEqual([["refused"], ["allReduce"]]);
    expect([communicator.state, failures]).toEqual(["OPEN", []]);
  });

  test("fails the group if its device fails at the call", () => {
    const { communicator, streams, failures } = made();
    streams.markError = new DistBackendError("CUDA_ERROR_ILLEGAL_ADDRESS");
    const [work] = communicator.submit([new HeldMemory().call()]);
    expect(work?.exception()?.message).toBe("CUDA_ERROR_ILLEGAL_ADDRESS");
    expect([communicator.state, failures]).toEqual(["FAILED", ["CUDA_ERROR_ILLEGAL_ADDRESS"]]);
  });

  test("fails the group if its stream cannot be waited for any more, and so do those behind it", async () => {
    const { communicator, backend, streams, failures, finish } = made(new RefusingCommunicator());
    streams.holdUpError = new Error("the stream is lost");
    const [first] = communicator.submit([new HeldMemory().call()]);
    const [second] = communicator.submit([new HeldMemory().call()]);
    await finish();
    expect(first?.exception()?.message).toBe("allReduce: the stream is lost");
    expect(second?.isSuccess()).toBe(false);
    expect([backend.aborted, communicator.state]).toEqual(["allReduce: the stream is lost", "FAILED"]);
    expect(failures).toEqual(["allReduce: the stream is lost"]);
  });

  test("fails the group if it is refused then: the other ranks count on it", async () => {
    const { communicator, backend, failures, finish } = made(new RefusingCommunicator());
    const [first] = communicator.submit([new HeldMemory().call()]);
    const [second] = communicator.submit([new HeldMemory().call()]);
    await finish();
    expect(first?.exception()?.message).toBe("no memory of a device");
    expect(second?.exception()?.message).toBe("it has failed before");
    expect([backend.aborted, communicator.state]).toEqual(["no memory of a device", "FAILED"]);
    expect(failures).toEqual(["no memory of a device"]);
  });

  test("synchronize() concerns the stream of the call, unless another one is current", async () => {
    const seen: (number | undefined)[] = [];
    class OnStream extends Work<void> {
      override synchronize(): void {
        seen.push(currentStream());
      }
      protected override block(): void {}
    }
    class WithStreams extends FakeCommunicator {
      override submit(calls: readonly OpCall[]): readonly Work<void>[] {
        return calls.map(() => new OnStream({ opType: OpType.ALLREDUCE }));
      }
    }
    const currentStream = () => currentStreamOf(device)?.handle;
    const { communicator, finish } = made(new WithStreams());
    const [work] = communicator.submit([new HeldMemory().call(streamOf(5))]);
    await finish();
    work?.synchronize();
    setCurrentStreamOf(device, streamOf(9));
    try {
      work?.synchronize();
    } finally {
      setCurrentStreamOf(device, undefined);
    }
    expect(seen).toEqual([5, 9]);
    expect(currentStream()).toBeUndefined();
  });
});
