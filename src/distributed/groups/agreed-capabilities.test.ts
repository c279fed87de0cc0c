import { describe, expect, test } from "bun:test";
import fake from "../../backends/fake/plugin.ts";
import * as dist from "../../index.ts";
import { localRanks } from "../../testing/index.ts";

const { allReduce, broadcast, barrier, allGatherIntoTensor, allGatherIntoTensorCoalesced } = fake.capabilities.ops;
const ops = { allReduce, broadcast, barrier, allGatherIntoTensor, allGatherIntoTensorCoalesced };

/** The fake backend, whose instances claim what `of` returns for their rank. */
function varying(of: (rank: number) => Partial<dist.Capabilities>, instancesDiffer: boolean): dist.BackendPlugin {
  return {
    ...fake,
    name: "varying",
    instancesDiffer,
    async create(context) {
      const backend = await fake.create(context);
      Object.defineProperty(backend, "capabilities", { value: { ...fake.capabilities, ...of(context.rank) } });
      return backend;
    },
  };
}

describe("capabilities of instances", () => {
  test("an op composed of others is composed in the same way on all ranks", async () => {
    const { allGatherIntoTensorCoalesced: _, ...without } = ops;
    const plugin = varying((rank) => ({ ops: rank === 1 ? without : ops }), true);
    const container = dist.createContainer({ overrides: [plugin] });
    const seen = await localRanks(
      2,
      async ({ rank, store }) => {
        const calls: string[] = [];
        const noting: dist.Middleware = {
          name: "noting",
          create: () => (next) => (list) => {
            calls.push(...list.map(({ op }) => op));
            return next(list);
          },
        };
        const own = container.createChildContainer();
        own.register(dist.BACKEND_MIDDLEWARE, { useValue: noting });
        await dist.initProcessGroup({ backend: "varying", container: own, store, rank, worldSize: 2 });
        const outputs = [new Float32Array(2), new Float32Array(2)];
        await dist.allGatherIntoTensor(outputs, [Float32Array.of(rank), Float32Array.of(10 + rank)]);
        await dist.destroyProcessGroup();
        return { calls, outputs: outputs.map((each) => [...each]) };
      },
      { init: false },
    );
    for (const each of seen) {
      expect(each).toEqual({
        calls: ["allGatherIntoTensor", "allGatherIntoTensor"],
        outputs: [
          [0, 1],
          [10, 11],
        ],
      });
    }
  });

  test("an instance claims no more than its plugin", async () => {
    const { reduce: _, ...claimed } = fake.capabilities.ops;
    const plugin = {
      ...varying(() => ({ ops: fake.capabilities.ops }), false),
      capabilities: { ...fake.capabilities, ops: claimed },
    };
    const container = dist.createContainer({ overrides: [plugin] });
    await dist.initProcessGroup({ backend: "varying", container, store: new dist.HashStore(), rank: 0, worldSize: 1 });
    expect(dist.reduce(new Float32Array(1), { dst: 0 }).exception()).toMatchObject({
      name: "UnsupportedOperationError",
    });
    await dist.allReduce(new Float32Array(1));
    await dist.destroyProcessGroup();
  });

  test("the capabilities that a rank reports are checked", async () => {
    const store = new dist.HashStore();
    const container = dist.createContainer({ overrides: [varying(() => ({ ops }), true)] });
    await new dist.PrefixStore("0//cpu/", store).set("capabilities/1", '{"ops":{"nonsense":[]},"reduceOps":{}}');
    const options = { mode: "solo" } as const;
    const started = dist.initProcessGroup({
      backend: "varying",
      container,
      store,
      rank: 0,
      worldSize: 2,
      options,
      timeout: "5s",
    });
    await expect(started).rejects.toMatchObject({
      code: "INVALID_CAPABILITIES",
      details: { peers: [1] },
      message: 'group "0": the capabilities of rank 1 cannot be read: capabilities.ops has the unknown row "nonsense"',
    });
  });

  test.each<[unknown, string]>([
    [{ ops: null }, "capabilities.ops must be a table, got null"],
    [{ reduceOps: undefined }, "capabilities.reduceOps must be a table, got undefined"],
    [{ ops: { allReduce: "float32" } }, "capabilities.ops.allReduce must be a list, got a string"],
    [{ ops: { allRedce: [] } }, 'capabilities.ops has the unknown row "allRedce"; did you mean "allReduce"?'],
  ])("so are those of an instance of a plain JavaScript plugin: %j", async (wrong, message) => {
    for (const instancesDiffer of [false, true]) {
      const container = dist.createContainer({ overrides: [varying(() => wrong as object, instancesDiffer)] });
      const place = { store: new dist.HashStore(), rank: 0, worldSize: 1 };
      await expect(dist.initProcessGroup({ backend: "varying", container, ...place })).rejects.toMatchObject({
        code: "INVALID_CAPABILITIES",
        message: `what create() of backend "varying" resolves to: ${message}`,
      });
    }
  });
});
