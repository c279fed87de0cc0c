import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { cuda } from "../cuda.ts";
import { holdTensorsIn, releaseHolds } from "../tensor-hold.ts";
import { viewTensor } from "../tensor-view.ts";
import type { CudaTensor } from "./cuda-tensor.ts";
import { faults, Hold } from "./fixtures/cuda-emulator.ts";

setDefaultTimeout(60_000);
afterAll(() => expect(faults()).toBe("0 faults"));

type Vector = CudaTensor<"float32", 1000>;

/** A tensor in the memory of one that was freed, whose last work is held up in the stream of both. */
function recycled(device: number, home = cuda.defaultStream(device)): { tensor: Vector; held: Hold } {
  const make = () => cuda.empty("float32", 1000, { stream: home });
  const before = make();
  const { ptr } = before;
  const held = new Hold(home);
  before.fill(1.5, { stream: home })[Symbol.dispose]();
  const tensor = make();
  expect(tensor.ptr).toBe(ptr);
  return { tensor, held };
}

describe("memory that work of a former tensor still uses", () => {
  const device = 3;

  test("is written by another stream after that work", async () => {
    using stream = new cuda.CudaStream({ device });
    const { tensor, held } = recycled(device);
    using _ = tensor;
    tensor.fill(2.5, { stream });
    expect(stream.query()).toBe(false);
    held[Symbol.dispose]();
    const read = await tensor.toHost({ stream });
    await cuda.defaultStream(device).synchronize();
    expect([read[0], (await tensor.toHost({ stream }))[999]]).toEqual([2.5, 2.5]);
  });

  test("through a view, and by a copy from another tensor or from the host", async () => {
    using source = cuda.zeros("float32", 1000, { device }).fill(7);
    await cuda.defaultStream(device).synchronize();
    for (const from of [source, new Float32Array(1000).fill(7)]) {
      using stream = new cuda.CudaStream({ device });
      const { tensor, held } = recycled(device);
      using _ = tensor;
      using view = tensor.slice(0);
      view.copyFrom(from, { stream });
      expect(stream.query()).toBe(false);
      held[Symbol.dispose]();
      await cuda.defaultStream(device).synchronize();
      expect((await tensor.toHost({ stream }))[500]).toBe(7);
    }
  });

  test("is used by an op after that work, in whichever stream it starts", () => {
    using stream = new cuda.CudaStream({ device });
    using home = new cuda.CudaStream({ device });
    const { tensor, held } = recycled(device, home);
    using _ = tensor;
    releaseHolds(holdTensorsIn(home, [viewTensor(tensor)]));
    expect(stream.query()).toBe(true);
    const holds = holdTensorsIn(stream, [viewTensor(tensor)]);
    expect(stream.query()).toBe(false);
    held[Symbol.dispose]();
    stream.synchronizeSync();
    releaseHolds(holds);
  });

  test("does not hold up other streams that do not use it, nor for memory that is new", () => {
    using stream = new cuda.CudaStream({ device });
    const { tensor, held } = recycled(device);
    using _ = tensor;
    using fresh = cuda.empty("float32", 5_000_000, { device });
    fresh.zero({ stream });
    stream.synchronizeSync({ timeout: 10_000 });
    expect(cuda.defaultStream(device).query()).toBe(false);
    held[Symbol.dispose]();
    cuda.defaultStream(device).synchronizeSync();
  });

  test("and when it is freed again, waits for all of its streams", async () => {
    using stream = new cuda.CudaStream({ device });
    const { tensor, held } = recycled(device);
    const { ptr } = tensor;
    tensor.fill(2.5, { stream })[Symbol.dispose]();
    {
      using next = cuda.empty("float32", 1000, { device });
      expect(next.ptr).not.toBe(ptr);
    }
    held[Symbol.dispose]();
    await stream.synchronize();
    await cuda.defaultStream(device).synchronize();
  });
});
