import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { faults, Hold } from "../tensor/cuda/fixtures/cuda-emulator.ts";
import { cuda } from "../tensor/cuda.ts";
import { type DType, hashTensors, partOfView, tensor, viewTensor } from "../tensor/index.ts";
import { failureOf } from "../work/index.ts";
import { callOf, fakeContext, fakeSubmit } from "./fixtures/fake-group.ts";
import { nanCheck } from "./nan-check.ts";

setDefaultTimeout(60_000);

// What reads the elements of tensors, with tensors on the emulated CUDA device.

afterAll(() => expect(faults()).toBe("0 faults"));

async function checked() {
  const group = fakeContext();
  const lane = fakeSubmit();
  const layer = await nanCheck.create(group.context);
  return { ...group, ...lane, check: layer(lane.submit) };
}

describe("the NaN check of CUDA tensors", () => {
  test.each<[DType, number[], number]>([
    ["float32", [1, 2, Number.NaN, 4], 2],
    ["float16", [1, Number.NaN], 1],
    ["bfloat16", [Number.NaN], 0],
    ["float8_e4m3fn", [0, 0, 0, Number.NaN, 0], 3],
    ["complex64", [1, 1, 1, Number.NaN], 1],
    ["float64", [1, 2], -1],
    ["int32", [1, 2], -1],
    ["float32", [], -1],
  ])("%s %p", async (dtype, numbers, at) => {
    const { check, batches } = await checked();
    using x = cuda.from(tensor(numbers, { dtype }), { device: 1 });
    const [work] = check([callOf("allReduce", { outputs: [x] })]);
    const failure = work === undefined ? undefined : failureOf(work);
    if (at < 0) expect([failure, batches.length]).toEqual([undefined, 1]);
    else {
      expect(failure).toMatchObject({ code: "NAN_FOUND", details: { element: at } });
      expect(batches).toEqual([]);
    }
  });

  test("comes after what is in the stream of the op", async () => {
    const { check } = await checked();
    using stream = new cuda.CudaStream();
    using x = cuda.zeros("float32", 4, { stream });
    const call = callOf("send", { inputs: [x], peer: 0, stream });
    const hold = new Hold(stream);
    x.fill(Number.NaN, { stream });
    // The check blocks this thread, so another one has to release the stream.
    const release = new Worker(new URL("./fixtures/release-hold.ts", import.meta.url));
    await new Promise((resolve) => {
      release.onmessage = resolve;
    });
    release.postMessage(hold.id);
    const [work] = check([call]);
    expect(work === undefined ? undefined : failureOf(work)).toMatchObject({ code: "NAN_FOUND" });
    release.terminate();
  });
});

describe("hashTensors", () => {
  test("hashes tensors on devices as those in host memory, and parts of them", async () => {
    const host = Float32Array.from({ length: 1000 }, (_, i) => Math.sqrt(i));
    using x = cuda.from(host);
    using y = cuda.from(host, { device: 3 });
    const hash = hashTensors([host, host]);
    expect([hashTensors([x, y]), hashTensors([host, y])]).toEqual([hash, hash]);
    using part = x.slice(10, 20);
    expect(hashTensors([part])).toBe(hashTensors([host.subarray(10, 30)]));
    const { source: _, ...view } = partOfView(viewTensor(x), 5, 7);
    const foreign = { [Symbol.for("c10d.tensor")]: () => ({ ...view, device: "cuda:0" }) };
    expect(hashTensors([foreign as never])).toBe(hashTensors([host.subarray(5, 12)]));
  });

  test("refuses what is no memory of a device, and tensors that were disposed of", () => {
    const garbage = { [Symbol.for("c10d.tensor")]: () => ({ ptr: 64, byteLength: 4, dtype: "int8", device: "cuda" }) };
    expect(() => hashTensors([garbage as never])).toThrow(
      "hashTensors: tensors[0] is on cuda:0, and cannot be copied to host memory: cuda.foreign: ptr (0x40) is unknown to CUDA",
    );
    const x = cuda.zeros("int8", 4);
    x[Symbol.dispose]();
    expect(() => hashTensors([x])).toThrow("was disposed of");
  });
});
