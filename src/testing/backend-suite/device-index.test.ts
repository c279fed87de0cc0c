import { describe, expect, setDefaultTimeout, test } from "bun:test";
import fake from "../../backends/fake/plugin.ts";
import { describeGloo } from "../../backends/gloo/fixtures/availability.ts";
import * as dist from "../../index.ts";
import type { BackendPlugin } from "../../registry/index.ts";
import { TENSOR_PROTOCOL, type TensorLike } from "../../tensor/index.ts";
import { testBackend } from "../backend-suite.ts";
import { cuda, cudaAndHost, cudaOverGloo, emulateCuda, type FindDevice } from "../fixtures/cuda-emulator.ts";
import memory, { emulatedDevice } from "../fixtures/emulated-memory.ts";
import { localRanks } from "../local-ranks.ts";
import { suiteCases } from "./cases.ts";
import type { SuiteMemory } from "./device-memory.ts";
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

/** What goes wrong in cases with an emulator that has a bug. */
async function failuresWith(plugin: BackendPlugin, cases = ["broadcast > every dtype, root and size"]) {
  const results = await runSuite({ plugin, worldSize: 2, memory, order: order(cases), spawn: false });
  return results.flatMap(({ failures }) => failures).join("\n");
}

describe("the conformance suite on a device finds", () => {
  test.each<[string, FindDevice]>([
    ["a backend that takes the first device", () => emulatedDevice(0)],
    ["a backend that takes the number of the rank for that of the device", ({ rank }) => emulatedDevice(rank)],
    ["a backend that takes one device for all ranks", () => emulatedDevice(1)],
  ])("%s", async (_, find) => {
    expect(await failuresWith(emulateCuda(fake, "mutant", ["cuda"], find))).toMatch(/cuda:\d has no \d+ bytes at 0x/);
  });

  test("a backend whose groups are on another device than the default one", async () => {
    const find: FindDevice = ({ device, groupName }) => emulatedDevice(groupName === "0" ? device.index : 0);
    expect(await failuresWith(emulateCuda(fake, "mutant", ["cuda"], find))).toContain("cuda:0 has no");
  });

  test("a backend that writes beside the tensor", async () => {
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

  test("nothing wrong with the emulator, and leaves no memory behind", async () => {
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

  test("what is not memory is refused on the rank", async () => {
    const failures = (opened: object) =>
      runSuite({
        plugin: cuda,
        worldSize: 1,
        memory: { device: "cuda", open: () => opened as ReturnType<typeof emulatedDevice> },
        order: order(["barrier > nobody leaves before the last has come"]),
        spawn: false,
      }).then((results) => results.flatMap((each) => each.failures).join());
    expect(await failures({ index: 1 })).toContain("what memory.open() gives must have a method allocate()");
    const { allocate, write, read, free } = emulatedDevice(1);
    expect(await failures({ allocate, write, read, free, index: -1 })).toContain(
      "number of its device as index, got -1",
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
        `allReduce: group "1" has no backend for cuda:0 tensors (it has cpu, ${deviceId})`,
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
