import { ptr } from "bun:ffi";
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { cuda } from "../cuda.ts";
import { type DType, dtypeNames, dtypes } from "../dtype.ts";
import { empty } from "../empty.ts";
import { hashTensors } from "../hash-tensors.ts";
import { Tensor, type TensorStorage, tensor } from "../tensor.ts";
import { TENSOR_PROTOCOL, type TensorLike, viewTensor } from "../tensor-view.ts";
import { faults, Hold } from "./fixtures/cuda-emulator.ts";

setDefaultTimeout(60_000);

afterAll(() => expect(faults()).toBe("0 faults"));

const numbers = (length: number): Float32Array => Float32Array.from({ length }, (_, i) => i);

describe("making tensors", () => {
  test("empty: with dtype, shape, device and length; nothing of it is defined", () => {
    using x = cuda.empty("bfloat16", [3, 4], { device: 1 });
    expect([x.dtype, x.shape, x.device, x.length, x.byteLength]).toEqual([
      "bfloat16",
      [3, 4],
      { type: "cuda", index: 1 },
      12,
      24,
    ]);
    expect(x.ptr).toBeGreaterThan(0);
    // The emulator's poison.
    expect(new Uint8Array(x.toHostSync().data.buffer)[0]).toBe(0xdb);
    expect(viewTensor(x)).toMatchObject({ ptr: x.ptr, byteLength: 24, length: 12, dtype: "bfloat16", data: undefined });
  });

  test("zeros", async () => {
    using x = cuda.zeros("int64", 5);
    expect<unknown>(await x.toHost()).toEqual(new BigInt64Array(new SharedArrayBuffer(40)));
  });

  test.each([...dtypeNames])("from and toHost: %s", async (dtype) => {
    const bytes = crypto.getRandomValues(new Uint8Array(24 * dtypes[dtype].size));
    const source = tensor(bytes, { dtype, shape: [2, 3, 4] });
    using x = cuda.from(source);
    bytes.fill(0); // It was read at the call.
    const back = (await x.toHost()) as Tensor;
    expect(back).toBeInstanceOf(Tensor);
    expect([back.dtype, back.shape]).toEqual([dtype, [2, 3, 4]]);
    using y = cuda.from(back);
    expect(hashTensors([x])).toBe(hashTensors([back]));
    expect(hashTensors([y])).toBe(hashTensors([x]));
  });

  test("from a TypedArray, of which toHost gives the same kind", async () => {
    using x = cuda.from(numbers(10));
    const back: Float32Array = await x.toHost();
    expect(back).toEqual(numbers(10));
    expect(back.buffer).toBeInstanceOf(SharedArrayBuffer);
    using flags = cuda.from(tensor([true, false], { dtype: "bool" }));
    expect((await flags.toHost()) as Tensor).toBeInstanceOf(Tensor);
  });

  test("without elements", async () => {
    using x = cuda.from(new Float32Array(0));
    using y = cuda.zeros("int8", [4, 0, 2]);
    expect([x.ptr, y.ptr, y.length]).toEqual([0, 0, 0]);
    expect<unknown>(await x.toHost()).toHaveLength(0);
    expect((await y.fill(1).toHost()).shape).toEqual([4, 0, 2]);
    expect(x.copyFrom(new Float32Array(0)).view([0, 7]).slice(0).length).toBe(0);
    expect(hashTensors([x])).toBe(0n);
  });

  test("larger than a piece of a copy", async () => {
    const source = new Uint32Array(12_000_001).map((_, i) => i);
    using x = cuda.from(source);
    expect(Buffer.compare(Buffer.from(await x.toHost()), Buffer.from(source))).toBe(0);
    expect(Buffer.compare(Buffer.from(x.toHostSync()), Buffer.from(source))).toBe(0);
  });

  test.each<[name: string, make: () => unknown, message: string]>([
    ["an unknown dtype", () => cuda.empty("float31" as DType, 1), "unknown dtype float31"],
    ["a negative size", () => cuda.empty("int8", [2, -1]), "got [2, -1]"],
    ["a size that is no number", () => cuda.zeros("int8", "2" as unknown as number), 'got "2"'],
    ["more bytes than there are numbers for", () => cuda.empty("float64", [2 ** 53 - 1, 3]), "no device has"],
    ["a size of 2^53", () => cuda.empty("int8", 2 ** 53), "shape must be"],
    ["NaN", () => cuda.empty("int8", Number.NaN), "shape must be"],
    ["a device that is not there", () => cuda.empty("int8", 1, { device: 4 }), "cuda:0 to cuda:3"],
    ["a negative device", () => cuda.empty("int8", 1, { device: -1 }), "no device -1"],
    ["the CPU", () => cuda.empty("int8", 1, { device: "cpu" }), 'got "cpu"'],
    ["what is no device", () => cuda.empty("int8", 1, { device: "gpu" }), 'got "gpu"'],
    ["what is no tensor", () => cuda.from([1, 2] as unknown as TensorLike), "cuda.from: source"],
    ["what has no size", () => cuda.zeros("int8", -1), "cuda.zeros: shape"],
    ["no device to copy to", () => cuda.from(numbers(1), { device: 9 }), "cuda.from: there is no device 9"],
    ["what is no stream", () => cuda.empty("int8", 1, { stream: 0 as never }), "must be a CudaStream, got number 0"],
    ["no shape for foreign memory", () => cuda.foreign(null as never), "cuda.foreign: memory must be"],
  ])("refuses %s", (_, make, message) => {
    expect(make).toThrow(message);
    expect(make).toThrow(expect.objectContaining({ name: "InvalidArgumentError" }));
  });

  test.each<[string, () => unknown]>([
    ["source", () => cuda.from([1, 2] as unknown as TensorLike)],
    ["source", () => cuda.zeros("int8", 1).copyFrom(5 as never)],
    ["memory", () => cuda.foreign({ ptr: 0, byteLength: 4, dtype: "float32" })],
  ])("the error names the argument %s alone", (argument, call) => {
    expect(call).toThrow(expect.objectContaining({ details: expect.objectContaining({ argument }) }));
  });

  test("refuses a stream of another device", () => {
    using stream = new cuda.CudaStream({ device: 1 });
    expect(() => cuda.empty("int8", 1, { device: 0, stream })).toThrow(
      "the stream is of cuda:1, it must be one of cuda:0",
    );
    using x = cuda.zeros("int8", 1, { stream });
    expect(x.device.index).toBe(1);
  });
});

describe("views share memory", () => {
  test("view, slice, narrow, as", async () => {
    using x = cuda.from(numbers(12));
    using grid = x.view([3, 4]);
    using row = grid.narrow(1, 1);
    using part = grid.slice(5, 3);
    using bytes = part.as("uint8");
    expect([row.shape, part.shape, bytes.shape, grid.as("float64").shape]).toEqual([[1, 4], [3], [12], [3, 2]]);
    expect(row.ptr - x.ptr).toBe(16);
    part.fill(7);
    expect<unknown>(await x.toHost()).toEqual(Float32Array.of(0, 1, 2, 3, 4, 7, 7, 7, 8, 9, 10, 11));
    expect((await row.toHost()).data).toEqual(Float32Array.of(4, 7, 7, 7));
    expect<unknown>(new Float32Array((await bytes.toHost()).buffer)).toEqual(Float32Array.of(7, 7, 7));
    using scalar = x.slice(3, 1).view([]);
    expect((await scalar.toHost()).data[0]).toBe(3);
    expect(scalar.as("int32").shape).toEqual([]);
  });

  test("views of views", async () => {
    using x = cuda.from(numbers(12));
    using part = x.slice(4, 8);
    using rows = part.view([4, 2]).narrow(1, 2);
    using last = rows.narrow(1, 1).slice(1);
    expect((await rows.toHost()).data).toEqual(Float32Array.of(6, 7, 8, 9));
    expect<unknown>(await last.toHost()).toEqual(Float32Array.of(9));
  });

  test("refuses what does not fit", () => {
    using x = cuda.from(numbers(12));
    const wrong: (() => unknown)[] = [
      () => x.view([5]),
      () => x.view([-3, -4]),
      () => x.view("12" as never),
      () => x.slice(0, 13),
      () => x.slice(-1, 2),
      () => x.slice(2 ** 53, 1),
      () => x.slice(0.5, 1),
      () => x.slice(Number.NaN),
      () => x.view([3, 4]).narrow(2, 2),
      () => x.view([]),
      () => x.slice(1, 1).as("float64"),
      () => x.slice(1, 2).as("float64"),
      () => x.as("int5" as DType),
    ];
    for (const each of wrong) expect(each).toThrow(expect.objectContaining({ name: "InvalidArgumentError" }));
  });
});

describe("fill", () => {
  test.each<[DType, number | bigint, unknown]>([
    ["float32", 1.5, 1.5],
    ["float64", -2, -2],
    ["int8", -1, -1],
    ["int64", 2n ** 40n, 2n ** 40n],
    ["uint16", 0x1234, 0x1234],
    ["bfloat16", 1, 0x3f80],
    ["bool", 1, 1],
  ])("%s with %p", async (dtype, value, expected) => {
    using x = cuda.empty(dtype, [3_000_001]);
    const host = x.fill(value).toHostSync() as Tensor | TensorStorage;
    const data: TensorStorage = host instanceof Tensor ? host.data : host;
    expect(data.every((each: unknown) => each === expected)).toBe(true);
  });

  test("a complex number gets the real part; what the dtype cannot hold is refused", async () => {
    using x = cuda.empty("complex64", 2);
    expect((await x.fill(3).toHost()).data).toEqual(Float32Array.of(3, 0, 3, 0));
    using y = cuda.zeros("uint8", 2);
    expect(() => y.fill(256)).toThrow("is not a value of uint8");
    expect<unknown>(await y.toHost()).toEqual(Uint8Array.of(0, 0));
  });
});

describe("copies", () => {
  test("from the host to a part, and to given host memory", async () => {
    using x = cuda.zeros("float32", 6);
    x.slice(2, 3).copyFrom(Float32Array.of(1, 2, 3));
    const target = new Float32Array(6);
    await x.copyTo(target);
    expect(target).toEqual(Float32Array.of(0, 0, 1, 2, 3, 0));
  });

  test("on one device and between two", async () => {
    using x = cuda.from(numbers(1000));
    using same = cuda.from(x);
    using other = cuda.from(x, { device: 2 });
    using back = cuda.empty("float32", [10, 100]);
    back.copyFrom(other);
    x.zero();
    expect<unknown>(await same.toHost()).toEqual(numbers(1000));
    expect<unknown>(await other.toHost()).toEqual(numbers(1000));
    expect((await back.toHost()).data).toEqual(numbers(1000));
    await same.zero().copyTo(other);
    expect((await other.toHost())[999]).toBe(0);
  });

  test("between devices are in order with what both streams have before and after", async () => {
    using source = cuda.zeros("float32", 4, { device: 0 });
    using target = cuda.zeros("float32", 4, { device: 1 });
    const before = new Hold(cuda.defaultStream(1));
    target.fill(9);
    target.copyFrom(source.copyFrom(numbers(4)));
    await Bun.sleep(5);
    before[Symbol.dispose]();
    expect<unknown>(await target.toHost()).toEqual(numbers(4));
    const after = new Hold(cuda.defaultStream(0));
    target.copyFrom(source.zero());
    const copied = target.toHost();
    await Bun.sleep(5);
    after[Symbol.dispose]();
    expect<unknown>(await copied).toEqual(new Float32Array(4));
  });

  test("read host memory at the call, each its own", async () => {
    using x = cuda.zeros("float32", 4);
    using y = cuda.zeros("float32", 4);
    const hold = new Hold(cuda.defaultStream());
    const host = numbers(4);
    x.copyFrom(host);
    y.copyFrom(host.fill(8));
    host.fill(7);
    hold[Symbol.dispose]();
    expect<unknown>([await x.toHost(), await y.toHost()]).toEqual([numbers(4), new Float32Array(4).fill(8)]);
  });

  test("show what the device has when the stream gets there, not later", async () => {
    using x = cuda.from(numbers(4));
    let copied: Promise<Float32Array>;
    {
      using _hold = new Hold(cuda.defaultStream());
      copied = x.toHost();
      x.zero();
      await Bun.sleep(5);
    }
    expect<unknown>(await copied).toEqual(numbers(4));
    expect<unknown>(await x.toHost()).toEqual(new Float32Array(4));
  });

  test("of another dtype, length or kind of memory are refused, before anything is queued", async () => {
    using x = cuda.from(numbers(4));
    const stranger = (ptr: number, device: string, byteLength = 16): TensorLike => {
      return { [TENSOR_PROTOCOL]: () => ({ ptr, byteLength, dtype: "float32", device }) };
    };
    expect(() => x.copyFrom(new Float64Array(4))).toThrow("source has 4 elements of float64, this tensor 4 of float32");
    expect(() => x.copyFrom(new Float32Array(5))).toThrow("source has 5 elements of float32");
    expect(() => x.copyFrom(stranger(0x1000, "cuda"))).toThrow("is unknown to CUDA, not memory of cuda:0");
    expect(() => x.copyFrom(stranger(x.ptr, "cuda:1"))).toThrow("is memory of cuda:0, not memory of cuda:1");
    expect(() => x.copyFrom(stranger(x.ptr, "cuda:9"))).toThrow("there is no device 9");
    expect(() => x.copyFrom(stranger(2 ** 53 - 1, "cuda"))).toThrow("2^53");
    await expect(x.copyTo(new Int32Array(4))).rejects.toThrow("target has 4 elements of int32");
    await expect(x.copyTo(stranger(x.ptr, "cuda"))).rejects.toThrow("wrap it by cuda.foreign()");
    using y = cuda.zeros("float32", 6);
    expect(() => y.slice(0, 4).copyFrom(y.slice(2, 4))).toThrow("overlap");
    expect(y.copyFrom(y)).toBe(y);
  });

  test("a target that is detached before the copy is done", async () => {
    using x = cuda.from(numbers(4));
    const target = new Float32Array(4);
    const copied = x.copyTo(target);
    target.buffer.transfer();
    await expect(copied).rejects.toMatchObject({ code: "DETACHED_BUFFER" });
    expect<unknown>(await x.toHost()).toEqual(numbers(4));
  });

  test("in a stream of one's choice", async () => {
    using stream = new cuda.CudaStream();
    using x = cuda.zeros("float32", 4, { stream });
    const before = x.toHost({ stream });
    {
      using _hold = new Hold(cuda.defaultStream());
      x.copyFrom(numbers(4), { stream });
      expect<unknown>(x.toHostSync({ stream, timeout: "20s" })).toEqual(numbers(4));
    }
    expect<unknown>(await before).toEqual(new Float32Array(4));
  });
});

describe("time-outs", () => {
  test("end the wait only: the copy goes on, and its memory is kept until then", async () => {
    using stream = new cuda.CudaStream();
    using x = cuda.zeros("float32", 4, { stream });
    const target = empty("float32", 4);
    {
      using _hold = new Hold(stream);
      x.copyFrom(numbers(4), { stream });
      await expect(x.copyTo(target, { stream, timeout: 20 })).rejects.toMatchObject({
        name: "DistTimeoutError",
        code: "WAIT_TIMEOUT",
      });
      expect(() => x.toHostSync({ stream, timeout: 20 })).toThrow("waited 20 ms for the device");
      await x.toHost({ stream, timeout: 20 }).catch(() => {});
    }
    expect<unknown>(await x.toHost({ stream })).toEqual(numbers(4));
    expect(() => x.toHostSync({ timeout: 0 })).toThrow("timeout must be a positive number");
    await expect(x.toHost({ timeout: "soon" })).rejects.toThrow("timeout must be a positive number");
  });

  test("what was given up writes to nothing that is used otherwise", async () => {
    using first = new cuda.CudaStream();
    using second = new cuda.CudaStream();
    using x = cuda.zeros("float32", 4, { stream: first }).fill(5, { stream: first });
    using y = cuda.zeros("float32", [8, 4], { stream: second });
    await first.synchronize();
    const [one, two] = [new Hold(first), new Hold(second)];
    expect(() => x.toHostSync({ stream: first, timeout: 5 })).toThrow("waited 5 ms");
    // As many as there may be blocks for copies.
    for (let i = 0; i < 8; i++) y.slice(4 * i, 4).copyFrom(numbers(4), { stream: second });
    one[Symbol.dispose]();
    await first.synchronize();
    two[Symbol.dispose]();
    expect((await y.toHost({ stream: second })).data).toEqual(Float32Array.from({ length: 32 }, (_, i) => i % 4));
  });

  test("waiting leaves this thread to other code", async () => {
    using stream = new cuda.CudaStream();
    using x = cuda.zeros("float32", 4, { stream });
    const hold = new Hold(stream);
    let turns = 0;
    const timer = setInterval(() => {
      if (++turns === 5) hold[Symbol.dispose]();
    }, 2);
    await x.toHost({ stream });
    clearInterval(timer);
    expect(turns).toBeGreaterThanOrEqual(5);
  });
});

describe("foreign memory", () => {
  test("is used in place and not freed", async () => {
    using x = cuda.from(numbers(8));
    {
      using y = cuda.foreign({ ptr: x.ptr + 8, byteLength: 16, dtype: "float32", shape: [2, 2] });
      expect<unknown>(((await y.toHost()) as Tensor).data).toEqual(Float32Array.of(2, 3, 4, 5));
      y.fill(0);
    }
    expect<unknown>(await x.toHost()).toEqual(Float32Array.of(0, 1, 0, 0, 0, 0, 6, 7));
    const view: TensorLike = {
      [TENSOR_PROTOCOL]: () => ({ ptr: x.ptr, byteLength: 32, dtype: "float32", device: "cuda:0" }),
    };
    expect<unknown>(await cuda.toHost(view)).toEqual(Float32Array.of(0, 1, 0, 0, 0, 0, 6, 7));
    expect<unknown>(await cuda.toHost(x)).toHaveLength(8);
    using copy = cuda.from(view);
    expect(await copy.toHost()).toHaveLength(8);
  });

  test("is refused if it is not that: garbage, host memory, another device, more than there is", () => {
    using x = cuda.from(numbers(8));
    const pinned = cuda.pinned("float32", 8);
    const host = new Float32Array(new ArrayBuffer(32));
    const foreign =
      (ptr: number, byteLength = 32, device = 0) =>
      () =>
        cuda.foreign({ ptr, byteLength, dtype: "float32", device });
    using onPinned = cuda.from(pinned);
    expect(onPinned.length).toBe(8);
    for (const ptr of [0x10, 0xdead_beef_0000, 2 ** 52, addressOf(host)]) {
      expect(foreign(ptr)).toThrow(expect.objectContaining({ code: "NOT_DEVICE_MEMORY" }));
    }
    expect(foreign(addressOf(pinned))).toThrow("is page-locked host memory");
    expect(foreign(x.ptr, 32, 1)).toThrow("is memory of cuda:0, not memory of cuda:1");
    expect(foreign(x.ptr, 2 ** 40)).toThrow("the end of its memory");
    expect(foreign(0)).toThrow("is not an address");
    expect(foreign(-8)).toThrow("is not an address");
    expect(foreign(x.ptr, 30)).toThrow("not a whole number of float32 elements");
    expect(foreign(2 ** 53 - 8, 64)).toThrow("beyond 2^53");
    for (const offset of [1, 2, 3]) {
      expect(foreign(x.ptr + offset, 4)).toThrow(expect.objectContaining({ code: "MISALIGNED" }));
    }
    for (const [dtype, offset] of [
      ["complex64", 4],
      ["complex128", 8],
      ["float16", 2],
      ["uint8", 1],
    ] as const) {
      const part = { ptr: x.ptr + offset, byteLength: 16, dtype };
      using fits = cuda.foreign(part);
      expect(fits.ptr).toBe(part.ptr);
      if (dtype === "uint8") continue;
      expect(() => cuda.foreign({ ...part, ptr: x.ptr + offset / 2 })).toThrow(`a multiple of ${offset}`);
    }
    const { ptr } = x;
    expect(() => cuda.foreign({ ptr, byteLength: 32, dtype: "float32", shape: [3] })).toThrow(
      "does not hold 8 elements",
    );
  });
});

function addressOf(array: Float32Array): number {
  return ptr(array);
}
