import { describe, expect, setDefaultTimeout, test } from "bun:test";
import fake from "../../backends/fake/plugin.ts";
import { describeGloo } from "../../backends/gloo/fixtures/availability.ts";
import * as dist from "../../index.ts";
import type { BackendPlugin } from "../../registry/index.ts";
import { TENSOR_PROTOCOL, type TensorLike } from "../../tensor/index.ts";
import { cuda, cudaAndHost, cudaOverGloo, emulateCuda, type FindDevice } from "../fixtures/cuda-emulator.ts";
import memory, { emulatedDevice } from "../fixtures/emulated-memory.ts";
import { localRanks } from "../ranks/local-ranks.ts";
import { testBackend } from "./backend-suite.ts";
import { suiteCases } from "./cases/cases.ts";
import type { DeviceMemory, SuiteMemory } from "./device-memory.ts";
import { runSuite } from "./run-suite.ts";

setDefaultTimeout(60_000);

describe("on a device alone", () => {
  testBackend(cuda, { worldSizes: [2, 3], spawn: false, memory });
});

describe("in host memory, and on a device", () => {
  testBackend(cudaAndHost, { worldSizes: [2, 3], spawn: false, memory });
});

describe("in Workers", () => {
  testBackend(cuda, { worldSizes: [2], spawn: "workers", memory });
});

const sweep = { full: false, sizes: [0, 1, 7], large: 301, seed: 1 };
const order = (cases: readonly string[]) => ({ cases, sweep, canBlock: false, options: {} });

describeGloo("in processes, over gloo", () => {
  test("ranks load the memory from its module", async () => {
    const cases = ["allReduce > every dtype, reduce op and size", ...deviceCases()];
    const run = { plugin: cudaOverGloo, worldSize: 2, memory, order: { ...order(cases), canBlock: true }, spawn: {} };
    const results = await runSuite(run);
    expect(results.map(({ name, failures }) => ({ name, failures }))).toEqual(
      cases.map((name) => ({ name, failures: [] })),
    );
  });
});

function deviceCases(): string[] {
  return suiteCases.filter((each) => each.memory === "device").map(({ name }) => name);
}

/** The failures of cases with an emulator that has a bug. */
async function failuresWith(plugin: BackendPlugin, cases = ["broadcast > every dtype, root and size"]) {
  const results = await runSuite({ plugin, worldSize: 2, memory, order: order(cases), spawn: false });
  return results.flatMap(({ failures }) => failures).join("\n");
}

describe("the conformance suite on a device finds", () => {
  test.each<[string, FindDevice]>([
    ["a backend that takes the first device", () => emulatedDevice(0)],
    ["a backend that uses the rank as the device index", ({ rank }) => emulatedDevice(rank)],
    ["a backend that takes one device for all ranks", () => emulatedDevice(1)],
  ])("%s", async (_, find) => {
    expect(await failuresWith(emulateCuda(fake, "mutant", ["cuda"], find))).toMatch(/cuda:\d has no \d+ bytes at 0x/);
  });

  test("a backend whose groups are on another device than the default one", async () => {
    const find: FindDevice = ({ device, groupName }) => emulatedDevice(groupName === "0" ? device.index : 0);
    expect(await failuresWith(emulateCuda(fake, "mutant", ["cuda"], find))).toContain("cuda:0 has no");
  });

  test("a backend that writes outside the tensor", async () => {
    const plugin: BackendPlugin = {
      ...cuda,
      async create(context) {
        const backend = await cuda.create(context);
        const submit = backend.submit.bind(backend);
        backend.submit = (calls) => {
          const works = submit(calls);
          const [output] = calls[0]?.outputs ?? [];
          if (output !== undefined) emulatedDevice(context.device.index).write(output.ptr - 1, Uint8Array.of(1));
          return works;
        };
        return backend;
      },
    };
    expect(await failuresWith(plugin)).toContain("memory before the tensor was written to");
  });

  test("no fault in the emulator, and frees all memory", async () => {
    const before = [1, 2].map((index) => emulatedDevice(index).allocations);
    expect(await failuresWith(cuda)).toBe("");
    expect([1, 2].map((index) => emulatedDevice(index).allocations > (before[index - 1] ?? 0))).toEqual([true, true]);
    expect([1, 2].map((index) => emulatedDevice(index).size)).toEqual([0, 0]);
  });
});

describe("the memory of devices", () => {
  const text = "testBackend: memory must be { device, open }, with a device that is not the CPU";
  test.each<[string, BackendPlugin, unknown]>([
    [text, cuda, { device: "cuda" }],
    [text, cuda, { ...memory, device: "cpu" }],
    [text, cuda, "cuda:1"],
    ['testBackend: backend "fake" takes tensors of cpu, not of cuda', fake, memory],
    [
      'testBackend: backend "cuda-emulator" takes no tensors in host memory: give the memory of its devices (cuda)',
      cuda,
      undefined,
    ],
  ])("%s", (message, plugin, given) => {
    expect(() => testBackend(plugin, { memory: given as SuiteMemory })).toThrow(message);
  });

  const good = emulatedDevice(1);

  /** The error for memory that has these methods in place of correct ones. */
  async function failuresIn(faults: object): Promise<string> {
    const opened = {
      index: 1,
      allocate: (byteLength: number) => good.allocate(byteLength),
      write: (address: number, bytes: Uint8Array) => good.write(address, bytes),
      read: (address: number, byteLength: number) => good.read(address, byteLength),
      free: (address: number) => good.free(address),
      ...faults,
    };
    const results = await runSuite({
      plugin: cuda,
      worldSize: 1,
      memory: { device: "cuda", open: () => opened as DeviceMemory },
      order: order(["broadcast > every dtype, root and size", "allReduce > lists of tensors"]),
      spawn: false,
    });
    return results.flatMap(({ failures }) => failures).join("\n");
  }

  test.each<[string, object]>([
    ["must have a method allocate()", { allocate: undefined }],
    ["must have a method close()", { close: 5 }],
    ["number of its device as index, got number -1", { index: -1 }],
    ['number of its device as index, got "1"', { index: "1" }],
    ["allocate() must not be async", { allocate: async () => 8 }],
    ["write() must not be async", { write: async () => {} }],
    ["read() must not be async", { read: () => Promise.reject(new Error("no")) }],
    ["free() must not be async", { free: async () => Promise.reject(new Error("no")) }],
    ["allocate() must return an address, a positive integer, got number 0", { allocate: () => 0 }],
    ["allocate() must return an address, a positive integer, got bigint 8", { allocate: () => 8n }],
    ["must return an address that is a multiple of 8, got 0x", { allocate: () => 4100 }],
    ["within or around 1000 bytes that are still in use", { allocate: () => 4096 }],
    [
      "read(address, 1000) must return a Uint8Array of that many bytes, got 999 bytes",
      { read: () => new Uint8Array(999) },
    ],
    ["must return a Uint8Array of that many bytes, got ArrayBuffer", { read: () => new ArrayBuffer(1000) }],
    ["read() must return the bytes that write() copied there, but returned others", { write: () => {} }],
  ])("is at fault before a backend is tried: %s", async (text, faults) => {
    const failures = await failuresIn(faults);
    expect(failures).toContain(text);
    expect(failures).toContain("it stopped before the first case");
  });

  test("that cannot be freed is a failure of each case, one that cannot be closed is a failure of the last", async () => {
    let frees = 0;
    const free = (address: number) => {
      good.free(address);
      if (++frees > 2) throw new Error("not mine");
    };
    const close = () => Promise.reject(new Error("no end"));
    expect((await failuresIn({ free, close })).split("\n")).toEqual([
      "rank 0: the memory of the case's tensors could not be freed: not mine",
      "rank 0: the memory of the case's tensors could not be freed: not mine",
      "rank 0 did not end cleanly after all cases: Error: no end",
    ]);
  });

  test("other processes cannot load one from a file that exports something else", async () => {
    const module = new URL("../fixtures/cuda-emulator.ts", import.meta.url).href;
    const cases = ["allReduce > lists of tensors"];
    const run = { plugin: cuda, worldSize: 1, memory: { ...memory, module }, order: order(cases), spawn: {} };
    const [result] = await runSuite(run);
    expect(result?.failures.join()).toMatch(
      /ranks load the memory of cuda from \S+, but it is not the default export there/,
    );
  });

  test("other processes cannot load one without a module", () => {
    const { module: _, ...own } = memory;
    const run = runSuite({ plugin: cuda, worldSize: 1, memory: own, order: order([]), spawn: {} });
    expect(run).rejects.toThrow("cannot load the memory: add `module: import.meta.url` to it");
  });
});

test("a group for host memory and for a device: each call goes to the backend of its tensors", async () => {
  await localRanks(
    2,
    async ({ rank, store, worldSize }) => {
      const container = dist.createContainer({ overrides: [cuda] });
      const device = emulatedDevice(rank + 1);
      const deviceId = `cuda:${device.index}`;
      await dist.initProcessGroup({
        backend: "cpu:fake,cuda:cuda-emulator",
        deviceId,
        container,
        store,
        rank,
        worldSize,
      });
      const group = (await dist.newGroup()) ?? undefined;
      const address = device.allocate(4);
      const tensorOn = (name: string): TensorLike => ({
        [TENSOR_PROTOCOL]: () => ({ ptr: address, byteLength: 4, dtype: "int32", device: name }),
      });
      device.write(address, Uint8Array.of(rank + 1, 0, 0, 0));
      const host = Int32Array.of(10 * (rank + 1));
      await Promise.all([dist.allReduce(tensorOn(deviceId), { group }), dist.allReduce(host, { group })]);
      expect([device.read(address, 4)[0], host[0]]).toEqual([3, 30]);
      expect(dist.allReduce(tensorOn("cuda:0"), { group }).exception()?.message).toBe(
        `allReduce: group "1" has no backend for cuda:0 tensors (it has cpu, ${deviceId}): it is bound to ${deviceId}, which deviceId does not make the current device: ` +
          "call cuda.setDevice(group.boundDevice), or make its tensors with { device: group.boundDevice }",
      );
      expect(await dist.allGatherObject({ rank }, { group })).toEqual([{ rank: 0 }, { rank: 1 }]);
      const sparse = new dist.SparseTensor({
        indices: [[rank]],
        values: Float32Array.of(1),
        shape: [2],
        sparseDims: 1,
      });
      expect([...(await dist.allReduce(sparse, { group })).indices].map(Number)).toEqual([0, 1]);
      device.free(address);
      await dist.destroyProcessGroup();
    },
    { init: false },
  );
});
