import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { declarations } from "./driver-symbols.ts";
import { emulatorPath } from "./fixtures/cuda-emulator.ts";
import { runCuda } from "./fixtures/cuda-process.ts";

setDefaultTimeout(60_000);

/** Compiles a library with the driver's symbols, all of which fail. */
function failingDriver(path: string, code: number, name: string): void {
  const failing = Object.keys(declarations).filter((symbol) => !/^cuGetError|^cuDriverGetVersion$/.test(symbol));
  const text = (symbol: string, value: string) =>
    `int ${symbol}(int error, const char** text) { *text = ${value === "" ? "0" : JSON.stringify(value)}; return *text ? 0 : 1; }`;
  const source = [
    ...failing.map((symbol) => `int ${symbol}(void) { return ${code}; }`),
    "int cuDriverGetVersion(int* version) { *version = 12080; return 0; }",
    text("cuGetErrorName", name),
    text("cuGetErrorString", name === "" ? "" : "the text of it"),
  ].join("\n");
  const { exitCode, stderr } = Bun.spawnSync(["cc", "-shared", "-fPIC", "-x", "c", "-o", path, "-"], {
    stdin: Buffer.from(source),
    timeout: 30_000,
  });
  if (exitCode !== 0) throw new Error(`cc failed: ${stderr}`);
}

const all = `
  print(cuda.isAvailable());
  print(cuda.deviceCount());
  print(cuda.probe());
  try { cuda.empty("int8", 1); print("made") } catch (error) { print([error.name, error.code]) }
`;

describe("devices", () => {
  test("are those of the driver", async () => {
    const { printed, stderr } = await runCuda(
      `
      print(cuda.isAvailable());
      print(cuda.probe());
      const { freeMemory, ...facts } = cuda.device(1);
      print([facts, freeMemory]);
      print([cuda.currentDevice(), cuda.device().index]);
      cuda.setDevice("cuda:1");
      print([cuda.currentDevice(), cuda.device("cuda").index, cuda.empty("int8", 1).device, cuda.currentStream().device]);
      for (const wrong of [2, -1, 0.5, "cuda:2", "cpu", {}, null]) {
        try { cuda.setDevice(wrong); print("set") } catch (error) { print(error.message) }
      }
      print(cuda.currentDevice());
    `,
      { NCCL_EMULATOR_DEVICES: "2", NCCL_EMULATOR_MEMORY_MB: "64" },
    );
    expect(stderr).toBe("");
    const device = (index: number) => ({
      index,
      name: `NCCL emulator device ${index} (not a GPU)`,
      totalMemory: 64 * 2 ** 20,
      computeCapability: [9, 0],
    });
    expect(printed).toEqual([
      true,
      { available: true, library: emulatorPath, driverVersion: "13.0", devices: [device(0), device(1)] },
      [device(1), 64 * 2 ** 20],
      [0, 0],
      [1, 1, { type: "cuda", index: 1 }, { type: "cuda", index: 1 }],
      "cuda.setDevice: there is no device 2; the driver sees 2 devices, cuda:0 to cuda:1",
      "cuda.setDevice: there is no device -1; the driver sees 2 devices, cuda:0 to cuda:1",
      "cuda.setDevice: there is no device 0.5; the driver sees 2 devices, cuda:0 to cuda:1",
      "cuda.setDevice: there is no device 2; the driver sees 2 devices, cuda:0 to cuda:1",
      'cuda.setDevice: device must be an ordinal or a name such as "cuda:1", got "cpu"',
      'cuda.setDevice: device must be an ordinal or a name such as "cuda:1", got Object',
      'cuda.setDevice: device must be an ordinal or a name such as "cuda:1", got null',
      1,
    ]);
  });
});

describe("a machine without CUDA", () => {
  const unavailable = (code: string, reason: unknown, remedy: unknown) => [
    false,
    0,
    { available: false, code, reason, ...(remedy !== undefined && { remedy }), devices: [] },
    ["BackendUnavailableError", code],
  ];

  test("has no driver: where it was looked for, although the current folder has a file of that name", async () => {
    const { printed } = await runCuda(
      all,
      { C10D_CUDA_LIBRARY: undefined, LD_LIBRARY_PATH: undefined },
      {
        "libcuda.so.1": "not a library",
      },
    );
    const reason = expect.stringMatching(
      /^CUDA: the driver's library was not found. Looked at:\n {2}libcuda.so.1: cannot open shared object file.*\n {2}\/usr\/lib\/wsl\/lib\/libcuda.so.1 \(absent\)\n {2}\/usr\/local\/nvidia\/lib64\/libcuda.so.1 \(absent\)$/,
    );
    const remedy = expect.stringContaining("Install NVIDIA's driver");
    expect(printed).toEqual(unavailable("NO_CUDA_DRIVER", reason, remedy));
  });

  test("has one that C10D_CUDA_LIBRARY names wrongly", async () => {
    const { printed } = await runCuda(all, { C10D_CUDA_LIBRARY: "/nowhere/libcuda.so.1" });
    const reason = "CUDA: /nowhere/libcuda.so.1, which C10D_CUDA_LIBRARY names, does not exist";
    const remedy = "Correct the variable, or unset it to use the driver's own library.";
    expect(printed).toEqual(unavailable("NO_CUDA_DRIVER", reason, remedy));
  });

  test("has a file that is no library, or not CUDA's", async () => {
    const first = await runCuda(all, { C10D_CUDA_LIBRARY: "./libcuda.so.1" }, { "libcuda.so.1": "not a library" });
    expect(first.printed[2]).toMatchObject({
      available: false,
      code: "NO_CUDA_DRIVER",
      reason: expect.stringContaining("CUDA: cannot load ./libcuda.so.1: "),
    });
    const other = emulatorPath.replace("nccl-emulator/libcuda.so.1", "lib/libc10d_software_device.so");
    const second = await runCuda(all, { C10D_CUDA_LIBRARY: other });
    expect(second.printed[2]).toMatchObject({ reason: expect.stringContaining("cuInit") });
  });

  test("has a library that anybody can replace", async () => {
    const folder = mkdtempSync(join(tmpdir(), "c10d-cuda-"));
    try {
      const path = join(folder, "libcuda.so.1");
      copyFileSync(emulatorPath, path);
      chmodSync(path, 0o777);
      const { printed } = await runCuda(all, { C10D_CUDA_LIBRARY: path });
      const reason = expect.stringMatching(
        /is not loaded, since .* can be changed by anybody .*: remove that permission/,
      );
      expect(printed).toEqual(unavailable("UNTRUSTED_LIBRARY", reason, undefined));
      chmodSync(path, 0o755);
      expect((await runCuda(all, { C10D_CUDA_LIBRARY: path })).printed[0]).toBe(true);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("has a driver without a device", async () => {
    const { printed } = await runCuda(all, { NCCL_EMULATOR_DEVICES: "0" });
    const reason = expect.stringMatching(/^CUDA: the driver .* sees no device$/);
    expect(printed).toEqual(unavailable("NO_CUDA_DEVICE", reason, expect.stringContaining("CUDA_VISIBLE_DEVICES")));
  });

  test.each([
    [803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "restart the machine after an update"],
    [34, "CUDA_ERROR_STUB_LIBRARY", "leave its stubs folder out of LD_LIBRARY_PATH"],
    [46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "nvidia-smi shows its compute mode"],
    [802, "CUDA_ERROR_SYSTEM_NOT_READY", "Start nvidia-fabricmanager"],
    [4242, "", "dmesg and nvidia-smi may have more"],
  ])("has a driver that does not start: %d", async (code, name, advice) => {
    const folder = mkdtempSync(join(tmpdir(), "c10d-cuda-"));
    try {
      const path = join(folder, "libcuda.so.1");
      failingDriver(path, code, name);
      const { printed } = await runCuda(all, { C10D_CUDA_LIBRARY: path });
      const shown =
        name === ""
          ? `CUresult ${code} (${code}): an error that this driver has no text for`
          : `${name} (${code}): the text of it`;
      expect(printed).toEqual([
        false,
        0,
        {
          available: false,
          code: "CUDA_ERROR",
          reason: expect.stringContaining(`CUDA: cuInit failed with ${shown}. `),
          devices: [],
        },
        ["CudaError", "CUDA_ERROR"],
      ]);
      expect(JSON.stringify(printed)).toContain(advice);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("the dynamic loader's own folders are searched", async () => {
    const { printed } = await runCuda(all, {
      C10D_CUDA_LIBRARY: undefined,
      LD_LIBRARY_PATH: emulatorPath.replace("/libcuda.so.1", ""),
    });
    expect(printed[2]).toMatchObject({ available: true, library: "libcuda.so.1" });
  });
});

describe("importing the package", () => {
  test("loads neither CUDA nor the code for it", async () => {
    const { printed } = await runCuda(`
      const loaded = () => Object.keys(require.cache).filter((file) => file.includes("/tensor/cuda/")).length;
      const mapped = async () => (await Bun.file("/proc/self/maps").text()).includes("libcuda.so.1");
      print([loaded(), await mapped(), typeof cuda]);
      print(["empty" in cuda, loaded() > 5, await mapped()]);
      print([cuda.isAvailable(), await mapped(), Object.keys(cuda).includes("CudaTensor"), cuda.nothing]);
      try { cuda.empty = 1; print("set") } catch (error) { print(error.name) }
    `);
    expect(printed).toEqual([[0, false, "object"], [true, true, false], [true, true, true, null], "TypeError"]);
  });
});

describe("the end of a process", () => {
  test.each([
    ["at once, with work that is stuck", "process.exit(3)", 3],
    ["by an error", "throw new RangeError('end')", 1],
  ])("%s", async (_, end, code) => {
    const { exitCode, printed } = await runCuda(`
      import { dlopen } from "bun:ffi";
      const { symbols } = dlopen(process.env.C10D_CUDA_LIBRARY, { cuemu_hold: { args: ["i32", "u64"], returns: "u64" } });
      const x = cuda.zeros("float32", 1000);
      symbols.cuemu_hold(0, 0);
      const copied = x.zero().toHost();
      copied.catch(() => {});
      x[Symbol.dispose]();
      cuda.pinned("int8", 100);
      print("stuck");
      ${end};
    `);
    expect([exitCode, printed]).toEqual([code, ["stuck"]]);
  });

  test("is not reached while somebody waits for a device, and is then", async () => {
    const { exitCode, printed, stderr } = await runCuda(
      `
      const x = cuda.zeros("float32", 1000).fill(2);
      x.toHost().then((host) => print(host[999]));
    `,
      { NCCL_EMULATOR_DELAY_US: "100000" },
    );
    expect([exitCode, printed, stderr]).toEqual([0, [2], ""]);
  });
});

describe("Workers", () => {
  const worker = `
    import { cuda } from ${JSON.stringify(Bun.fileURLToPath(new URL("../../index.ts", import.meta.url)))};
    const index = Number(process.env.DEVICE ?? 0);
    self.onmessage = async ({ data }) => {
      cuda.setDevice(data.device);
      const stream = new cuda.CudaStream();
      const x = cuda.from(new Float32Array(1000).fill(data.device), { stream });
      let sum = 0;
      for (let i = 0; i < 50; i++) {
        using y = cuda.from(x, { stream });
        const host = await y.fill(i, { stream }).toHost({ stream });
        sum += host[999];
      }
      const host = await x.toHost({ stream });
      self.postMessage([data.device, cuda.currentDevice(), host[0], sum]);
      if (data.end === "exit") process.exit(0);
      if (data.end === "stuck") x.zero({ stream }).toHost({ stream });
    };
  `;

  test("have their own current device and memory; what they leave is freed when they exit", async () => {
    const { printed, stderr, exitCode } = await runCuda(
      `
      import { dlopen } from "bun:ffi";
      const { symbols } = dlopen(process.env.C10D_CUDA_LIBRARY, {
        cuemu_faults: { args: [], returns: "u64" }, cuemu_blocks: { args: [], returns: "u64" },
      });
      const own = cuda.zeros("int8", 10);
      const results = [];
      const workers = [1, 2, 3].map((device) => {
        const worker = new Worker("./worker.ts");
        const closed = new Promise((resolve) => worker.addEventListener("close", resolve));
        worker.onmessage = ({ data }) => results.push(data);
        worker.postMessage({ device, end: "exit" });
        return closed;
      });
      await Promise.all(workers);
      print(results.sort());
      print([cuda.currentDevice(), own.toHostSync()[9], Number(symbols.cuemu_faults()), Number(symbols.cuemu_blocks())]);
    `,
      {},
      { "worker.ts": worker },
    );
    expect(stderr).toBe("");
    expect(printed).toEqual([[1, 2, 3].map((device) => [device, device, device, 1225]), [0, 0, 0, 1]]);
    expect(exitCode).toBe(0);
  });

  test("can be terminated in the middle of their work", async () => {
    const { printed, stderr, exitCode } = await runCuda(
      `
      import { dlopen } from "bun:ffi";
      const { symbols } = dlopen(process.env.C10D_CUDA_LIBRARY, { cuemu_faults: { args: [], returns: "u64" } });
      for (let i = 0; i < 5; i++) {
        const worker = new Worker("./worker.ts");
        const begun = new Promise((resolve) => { worker.onmessage = resolve; });
        worker.postMessage({ device: 1, end: "stuck" });
        await begun;
        worker.terminate();
      }
      using x = cuda.from(Float32Array.of(1, 2, 3), { device: 1 });
      print(Array.from(await x.toHost()));
      print(Number(symbols.cuemu_faults()));
    `,
      {},
      { "worker.ts": worker },
    );
    expect([printed, stderr, exitCode]).toEqual([[[1, 2, 3], 0], "", 0]);
  });
});
