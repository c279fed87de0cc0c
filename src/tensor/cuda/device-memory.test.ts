import { afterAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { cuda } from "../cuda.ts";
import { holdTensors, releaseHolds, TENSOR_HOLD } from "../tensor-hold.ts";
import { type TensorLike, viewTensor } from "../tensor-view.ts";
import type { CudaStream } from "./cuda-stream.ts";
import { blocks, breakDevice, faults, Hold, pinnedBlocks } from "./fixtures/cuda-emulator.ts";

setDefaultTimeout(60_000);

/** The device of these tests, so that what others left does not count. */
const device = 2;
const stats = () => cuda.memoryStats(device);
const empty = (bytes: number) => cuda.empty("uint8", bytes, { device });
const MIB = 2 ** 20;

beforeEach(async () => {
  // Views that the test before left count, too.
  await collectUntil(() => stats().blocks === 0 && stats().pendingFrees === 0);
  cuda.emptyCache();
  expect(stats()).toMatchObject({ allocatedBytes: 0, blocks: 0, cachedBytes: 0, cachedBlocks: 0, pendingFrees: 0 });
});
afterAll(() => expect(faults()).toBe("0 faults"));

/** Collects garbage until a condition holds. */
async function collectUntil(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !condition(); i++) {
    Bun.gc(true);
    await Bun.sleep(2);
  }
}

describe("memory is kept for later tensors", () => {
  test("of the same rounded size", () => {
    const first = empty(1000);
    const { ptr } = first;
    expect(stats()).toMatchObject({ allocatedBytes: 1024, blocks: 1 });
    first[Symbol.dispose]();
    expect(stats()).toMatchObject({ allocatedBytes: 0, blocks: 0, cachedBytes: 1024, cachedBlocks: 1 });
    using again = empty(513);
    expect(again.ptr).toBe(ptr);
    using another = empty(513);
    expect(another.ptr).not.toBe(ptr);
    using larger = empty(3 * MIB);
    expect(larger.byteLength).toBe(3 * MIB);
    expect(stats()).toMatchObject({ allocatedBytes: 2048 + 4 * MIB, blocks: 3 });
  });

  test("at once in the same stream, in others when its work is done", async () => {
    using stream = new cuda.CudaStream({ device });
    using other = new cuda.CudaStream({ device });
    const first = cuda.empty("uint8", 100, { stream });
    const { ptr } = first;
    const hold = new Hold(stream);
    first.fill(1, { stream });
    first[Symbol.dispose]();
    expect(stats().pendingFrees).toBe(1);
    using elsewhere = cuda.empty("uint8", 100, { stream: other });
    expect(elsewhere.ptr).not.toBe(ptr);
    {
      using same = cuda.empty("uint8", 100, { stream });
      expect(same.ptr).toBe(ptr);
    }
    hold[Symbol.dispose]();
    await stream.synchronize();
    using then = cuda.empty("uint8", 100, { stream: other });
    expect(then.ptr).toBe(ptr);
  });

  test("until emptyCache(), but not what work on the device uses", async () => {
    const before = blocks();
    using stream = new cuda.CudaStream({ device });
    const x = cuda.zeros("uint8", 100, { stream });
    const y = empty(100);
    const hold = new Hold(stream);
    x.zero({ stream });
    x[Symbol.dispose]();
    y[Symbol.dispose]();
    await cuda.defaultStream(device).synchronize();
    expect([cuda.emptyCache(), blocks()]).toEqual([512, before + 1]);
    hold[Symbol.dispose]();
    await stream.synchronize();
    expect([cuda.emptyCache(), blocks()]).toEqual([512, before]);
  });
});

describe("memory is freed when nothing uses it any more", () => {
  test("not before its last view", () => {
    const x = empty(100);
    const y = x.slice(8, 20);
    const z = y.as("int32");
    x[Symbol.dispose]();
    x[Symbol.dispose]();
    y[Symbol.dispose]();
    expect(stats().blocks).toBe(1);
    expect(z.fill(7).toHostSync()).toEqual(new Int32Array(new SharedArrayBuffer(20)).fill(7));
    z[Symbol.dispose]();
    z[Symbol.dispose]();
    expect(stats()).toMatchObject({ blocks: 0, cachedBlocks: 1, leaked: 0 });
  });

  test("not while streams use it: a copy between devices, and what recordStream() names", async () => {
    using elsewhere = new cuda.CudaStream({ device: 1 });
    using kernels = new cuda.CudaStream({ device });
    const x = cuda.zeros("uint8", 100, { device });
    using y = cuda.empty("uint8", 100, { device: 1 });
    const [first, second] = [new Hold(elsewhere), new Hold(kernels)];
    y.copyFrom(x, { stream: elsewhere });
    x.recordStream(kernels);
    x[Symbol.dispose]();
    await cuda.defaultStream(device).synchronize();
    expect([stats().pendingFrees, cuda.emptyCache()]).toEqual([1, 0]);
    first[Symbol.dispose]();
    await elsewhere.synchronize();
    expect(stats().pendingFrees).toBe(1);
    second[Symbol.dispose]();
    await kernels.synchronize();
    expect(stats().pendingFrees).toBe(0);
    expect(() => x.recordStream(kernels)).toThrow("was disposed of");
  });

  test.each<[name: string, use: (x: ReturnType<typeof empty>, stream: CudaStream) => unknown]>([
    ["a fill", (x, stream) => x.fill(1, { stream })],
    ["a copy from the host", (x, stream) => x.copyFrom(new Uint8Array(100), { stream })],
    ["a copy to the host", (x, stream) => x.toHost({ stream })],
    ["a copy to it", (x, stream) => x.copyFrom(cuda.empty("uint8", 100, { device: 1 }), { stream })],
    ["a copy from it", (x, stream) => cuda.empty("uint8", 100, { device: 1 }).copyFrom(x, { stream })],
  ])("not while %s in another stream uses it", async (_, use) => {
    using stream = new cuda.CudaStream({ device });
    const x = empty(100);
    const hold = new Hold(stream);
    use(x, stream);
    x[Symbol.dispose]();
    await cuda.defaultStream(device).synchronize();
    expect(stats().pendingFrees).toBe(1);
    hold[Symbol.dispose]();
    await stream.synchronize();
    await collectUntil(() => stats().pendingFrees === 0);
    expect(stats().pendingFrees).toBe(0);
  });

  test("not while an op holds it", () => {
    const x = empty(100);
    const view = viewTensor(x);
    const holds = holdTensors([view, view], [view]);
    x[Symbol.dispose]();
    expect(stats().blocks).toBe(1);
    releaseHolds(holds.slice(0, 2));
    releaseHolds(holds.slice(0, 2));
    expect(stats().blocks).toBe(1);
    // An op that was called before, and is submitted now.
    const more = holdTensors([view]);
    releaseHolds(holds);
    expect(stats().blocks).toBe(1);
    releaseHolds(more);
    expect(stats()).toMatchObject({ blocks: 0, cachedBlocks: 1 });
    expect(() => holdTensors([view])).toThrow("was disposed of");
  });

  test("and holds are released if another tensor cannot be held", () => {
    const x = empty(100);
    const bad: TensorLike & { [TENSOR_HOLD](): void } = {
      [Symbol.for("c10d.tensor") as never]: () => ({ ptr: x.ptr, byteLength: 4, dtype: "float32", device: "cuda" }),
      [TENSOR_HOLD]() {
        throw new RangeError("gone");
      },
    } as never;
    expect(() => holdTensors([viewTensor(x), viewTensor(bad)])).toThrow("gone");
    x[Symbol.dispose]();
    expect(stats().blocks).toBe(0);
  });

  test("after a toHost() that was called before", async () => {
    using stream = new cuda.CudaStream({ device });
    const x = cuda.zeros("uint8", 4, { stream }).fill(3, { stream });
    await stream.synchronize();
    const hold = new Hold(stream);
    const copied = x.toHost({ stream });
    x[Symbol.dispose]();
    // In another stream, it gets other memory.
    using y = cuda.zeros("uint8", 4, { device });
    hold[Symbol.dispose]();
    expect<unknown>([await copied, await y.toHost()]).toEqual([Uint8Array.of(3, 3, 3, 3), new Uint8Array(4)]);
  });

  test("by the garbage collector, which is counted", async () => {
    const before = stats().leaked;
    for (let i = 0; i < 50; i++) empty(100).zero().slice(0, 10);
    await collectUntil(() => stats().blocks < 5);
    expect(stats().blocks).toBeLessThan(5);
    expect(stats().leaked).toBeGreaterThanOrEqual(before + 45);
    await collectUntil(() => stats().blocks === 0);
    expect(stats().blocks).toBe(0);
  });

  test("and keeps the owner of foreign memory until then", async () => {
    using x = empty(16);
    let isCollected = false;
    const registry = new FinalizationRegistry(() => {
      isCollected = true;
    });
    const wrap = () => {
      const owner = {};
      registry.register(owner, undefined);
      return cuda.foreign({ ptr: x.ptr, byteLength: 16, dtype: "uint8", device, owner });
    };
    const y = wrap();
    for (let i = 0; i < 5; i++) {
      Bun.gc(true);
      await Bun.sleep(2);
    }
    expect([isCollected, y.length]).toEqual([false, 16]);
    const hold = new Hold(cuda.defaultStream(device));
    y.zero();
    y[Symbol.dispose]();
    for (let i = 0; i < 5; i++) {
      Bun.gc(true);
      await Bun.sleep(2);
    }
    expect([isCollected, stats().blocks]).toEqual([false, 1]);
    hold[Symbol.dispose]();
    await cuda.defaultStream(device).synchronize();
    stats();
    await collectUntil(() => isCollected);
    expect(isCollected).toBe(true);
  });
});

describe("use after dispose is refused", () => {
  test.each<[name: string, use: (x: ReturnType<typeof empty>) => unknown]>([
    ["ptr", (x) => x.ptr],
    ["an op", (x) => viewTensor(x)],
    ["view", (x) => x.view([4])],
    ["slice", (x) => x.slice(0, 1)],
    ["narrow", (x) => x.narrow(0, 1)],
    ["as", (x) => x.as("int8")],
    ["fill", (x) => x.fill(1)],
    ["zero", (x) => x.zero()],
    ["copyFrom", (x) => x.copyFrom(new Uint8Array(4))],
    ["toHostSync", (x) => x.toHostSync()],
    ["a copy of it", (x) => cuda.from(x)],
  ])("%s", (_, use) => {
    const x = empty(4);
    x[Symbol.dispose]();
    expect(x.isDisposed).toBe(true);
    expect(() => use(x)).toThrow(expect.objectContaining({ name: "InvalidArgumentError", code: "DISPOSED" }));
    expect(() => use(x)).toThrow("(uint8 [4] on cuda:2) was disposed of");
  });

  test("toHost and copyTo", async () => {
    const x = empty(4);
    x[Symbol.dispose]();
    await expect(x.toHost()).rejects.toMatchObject({ code: "DISPOSED" });
    await expect(x.copyTo(new Uint8Array(4))).rejects.toMatchObject({ code: "DISPOSED" });
  });
});

describe("too little memory", () => {
  test("is an error with the sizes, after which smaller tensors fit", () => {
    using x = empty(2 * MIB);
    const error = captured(() => empty(2 ** 40));
    expect(error).toMatchObject({
      name: "CudaError",
      code: "OUT_OF_MEMORY",
      cuda: { code: 2, name: "CUDA_ERROR_OUT_OF_MEMORY", call: "cuMemAlloc_v2" },
    });
    const total = cuda.device(device).totalMemory;
    expect(String(error)).toContain(
      `cannot allocate ${2 ** 40} bytes on cuda:2, which has ${total - 2 * MIB} of ${total} bytes free`,
    );
    expect(String(error)).toContain(`tensors of this thread use ${2 * MIB}`);
    expect(String(error)).toContain("Dispose of tensors");
    expect(captured(() => cuda.zeros("float64", 2 ** 49, { device }))).toMatchObject({ code: "OUT_OF_MEMORY" });
    using y = empty(2 * MIB);
    expect([x.length, y.length]).toEqual([2 * MIB, 2 * MIB]);
  });

  test("takes what is kept for later tensors first", async () => {
    const before = blocks();
    const large = Math.floor(cuda.device(device).freeMemory * 0.7);
    empty(large)[Symbol.dispose]();
    expect(blocks()).toBe(before + 1);
    await cuda.defaultStream(device).synchronize();
    using other = empty(large - 8 * MIB);
    expect([other.length, blocks()]).toEqual([large - 8 * MIB, before + 1]);
  });

  test.each(["the same size", "another size"])("waits for work that uses freed memory: %s", async (which) => {
    using stream = new cuda.CudaStream({ device });
    const large = Math.floor(cuda.device(device).freeMemory * 0.7);
    const x = cuda.empty("uint8", large, { stream });
    const hold = new Hold(stream);
    x.zero({ stream })[Symbol.dispose]();
    // This thread is blocked meanwhile.
    const called = new Int32Array(new SharedArrayBuffer(4));
    const worker = new Worker(new URL("fixtures/release-later.ts", import.meta.url));
    await once(worker, "message");
    worker.postMessage({ called, id: hold.id });
    Atomics.store(called, 0, 1);
    Atomics.notify(called, 0);
    using y = empty(which === "the same size" ? large : large - 8 * MIB);
    expect(y.byteLength).toBeGreaterThan(0);
    expect<unknown>(await y.slice(0, 1).zero().toHost()).toEqual(new Uint8Array(1));
    await worker.terminate();
  });

  test("does not take what a stuck stream uses, and does not wait for it for long", () => {
    using stream = new cuda.CudaStream({ device });
    const large = Math.floor(cuda.device(device).freeMemory * 0.7);
    const x = cuda.empty("uint8", large, { stream });
    using _hold = new Hold(stream);
    x.zero({ stream });
    x[Symbol.dispose]();
    const began = performance.now();
    expect(() => empty(large - 8 * MIB)).toThrow(
      `${Math.ceil(large / (2 * MIB)) * 2 * MIB} wait for work on the device (1 tensors)`,
    );
    expect(performance.now() - began).toBeLessThan(5_000);
  });
});

describe("page-locked memory", () => {
  test("is read and written in place, in the order of the stream", async () => {
    const host = cuda.pinned("float32", 1000);
    expect([host.constructor, host.length, host[999]]).toEqual([Float32Array, 1000, 0]);
    expect(cuda.pinned("bfloat16", [2, 3])).toMatchObject({ dtype: "bfloat16", shape: [2, 3] });
    expect(cuda.pinned("int8", 0)).toHaveLength(0);
    using x = cuda.zeros("float32", 1000, { device });
    {
      using _hold = new Hold(cuda.defaultStream(device));
      x.copyFrom(host.fill(1));
      host.fill(2);
    }
    expect((await x.toHost())[999]).toBe(2);
    x.slice(10, 5).fill(9);
    await x.slice(5, 10).copyTo(host.subarray(0, 10));
    expect(Array.from(host.subarray(0, 12))).toEqual([2, 2, 2, 2, 2, 9, 9, 9, 9, 9, 2, 2]);
  });

  test("is kept while a copy uses it, although nobody refers to it", async () => {
    using x = cuda.zeros("float32", 1000, { device });
    const hold = new Hold(cuda.defaultStream(device));
    x.copyFrom(cuda.pinned("float32", 1000).fill(5));
    for (let i = 0; i < 20; i++) {
      Bun.gc(true);
      await Bun.sleep(1);
      cuda.pinned("float32", 1000).fill(6);
    }
    hold[Symbol.dispose]();
    expect((await x.toHost()).every((each) => each === 5)).toBe(true);
  });

  test("is freed when it was collected, also after it was transferred", async () => {
    const moved = new Map<string, ArrayBuffer>();
    const fill = () => {
      for (let i = 0; i < 30; i++) {
        const { buffer } = cuda.pinned("float32", 100_000).fill(7);
        moved.set(`${i}`, buffer.transfer());
      }
    };
    fill();
    for (let i = 0; i < 10; i++) {
      Bun.gc(true);
      await Bun.sleep(1);
    }
    cuda.emptyCache();
    const kept = pinnedBlocks();
    expect(kept).toBeGreaterThanOrEqual(30);
    // Their memory is still there.
    for (const buffer of moved.values()) expect(new Float32Array(buffer).every((each) => each === 7)).toBe(true);
    moved.clear();
    await collectUntil(() => {
      cuda.emptyCache();
      return pinnedBlocks() < kept - 25;
    });
    expect(pinnedBlocks()).toBeLessThan(kept - 25);
  });

  test("refuses sizes that are none", () => {
    for (const size of [-1, 0.5, 2 ** 53, "1", undefined, [Number.NaN]]) {
      expect(() => cuda.pinned("int8", size as number)).toThrow("cuda.pinned: shape must be");
    }
    expect(captured(() => cuda.pinned("int8", 2 ** 52))).toMatchObject({ name: "CudaError", code: "OUT_OF_MEMORY" });
  });
});

describe("a device that fails", () => {
  test("is an error with CUDA's name and text; what is disposed of then is lost, without an error", async () => {
    const broken = 3;
    using stream = new cuda.CudaStream({ device: broken });
    using x = cuda.zeros("float32", 4, { device: broken });
    using pending = cuda.zeros("float32", 4, { stream });
    const hold = new Hold(stream);
    const copied = pending.toHost({ stream });
    try {
      breakDevice(broken, 700);
      await expect(copied).rejects.toMatchObject({
        name: "CudaError",
        code: "CUDA_CONTEXT_LOST",
        cuda: { code: 700, name: "CUDA_ERROR_ILLEGAL_ADDRESS" },
      });
      const error = captured(() => x.zero());
      expect(error).toMatchObject({ code: "CUDA_CONTEXT_LOST" });
      expect(String(error)).toContain("failed with CUDA_ERROR_ILLEGAL_ADDRESS (700): ");
      expect(String(error)).toContain("its context is lost: start the process again");
      await expect(x.toHost()).rejects.toThrow("CUDA_ERROR_ILLEGAL_ADDRESS");
      await expect(stream.synchronize()).rejects.toThrow("CUDA_ERROR_ILLEGAL_ADDRESS");
      expect(() => stream.synchronizeSync()).toThrow("CUDA_ERROR_ILLEGAL_ADDRESS");
      cuda.empty("int8", 1, { device: 1 })[Symbol.dispose]();
      x[Symbol.dispose]();
      expect(cuda.memoryStats(broken).lostBlocks).toBe(1);
    } finally {
      breakDevice(broken, 0);
      hold[Symbol.dispose]();
    }
    using y = cuda.zeros("float32", 4, { device: broken });
    expect<unknown>(await y.toHost()).toEqual(new Float32Array(4));
  });
});

function captured(body: () => unknown): unknown {
  try {
    body();
  } catch (error) {
    return error;
  }
  return undefined;
}
