import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { emulatorPath } from "./fixtures/cuda-emulator.ts";
import { runCuda } from "./fixtures/cuda-process.ts";

setDefaultTimeout(60_000);

const driver = `
  const { dlopen } = await import("bun:ffi");
  const { symbols } = dlopen(${JSON.stringify(emulatorPath)}, {
    cuDevicePrimaryCtxGetState: { args: ["i32", "ptr", "ptr"], returns: "i32" },
    cuDevicePrimaryCtxRetain: { args: ["ptr", "i32"], returns: "i32" },
    cuCtxSetCurrent: { args: ["ptr"], returns: "i32" },
    cuCtxGetCurrent: { args: ["ptr"], returns: "i32" },
    cuemu_break: { args: ["i32", "i32"], returns: "void" },
  });
  const out = new BigUint64Array(2);
  const hasContext = (device) => {
    const [flags, active] = [new Uint32Array(2), new Uint32Array(2)];
    symbols.cuDevicePrimaryCtxGetState(device, flags, active);
    return active[0] === 1;
  };
`;

/** All that a program does with tensors of one device. */
const work = `
  const x = cuda.from(new Float32Array([1, 2, 3]), { device: "cuda:1" });
  const pinned = cuda.pinned("float32", 3);
  await x.fill(2.5).copyTo(pinned);
  const stream = new cuda.CudaStream({ device: 1, priority: "high" });
  stream.waitStream(cuda.currentStream(1));
  const y = cuda.zeros("float32", 3, { stream }).copyFrom(x, { stream });
  const event = stream.record();
  cuda.currentStream(1).waitEvent(event);
  await event.synchronize();
  const foreign = cuda.foreign({ ptr: y.ptr, byteLength: 12, dtype: "float32", device: 1, owner: y });
  const values = [...pinned, ...(await foreign.toHost())];
  y[Symbol.dispose]();
  cuda.emptyCache();
`;

describe("contexts", () => {
  test("none is made on a device that is not used, such as a broken one", async () => {
    const { printed, stderr } = await runCuda(`
      cuda.deviceCount();
      ${driver}
      symbols.cuemu_break(0, 700);
      ${work}
      print(values);
      print([0, 1, 2].map(hasContext));`);
    expect(stderr).toBe("");
    expect(printed).toEqual([
      [2.5, 2.5, 2.5, 2.5, 2.5, 2.5],
      [false, true, false],
    ]);
  });

  test.each([0, 1, 2])("the current one of the thread stays that of another library, on device %i", async (own) => {
    const { printed, stderr } = await runCuda(`
      cuda.deviceCount();
      ${driver}
      const current = () => (symbols.cuCtxGetCurrent(out), Number(out[0]));
      symbols.cuDevicePrimaryCtxRetain(out, ${own});
      const context = Number(out[0]);
      symbols.cuCtxSetCurrent(context);
      ${work}
      print(values[0]);
      print(current() === context);
      symbols.cuCtxSetCurrent(0);
      x.zero();
      print(current());`);
    expect(stderr).toBe("");
    expect(printed).toEqual([2.5, true, 0]);
  });
});
