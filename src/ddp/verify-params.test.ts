import { describe, expect, test } from "bun:test";
import * as dist from "../index.ts";
import { localRanks } from "../testing/index.ts";
import type { CommHook } from "./comm-hook.ts";
import { DistributedDataParallel } from "./distributed-data-parallel.ts";
import type { ModelTensor } from "./parameter.ts";
import { verifyParamsAcrossProcesses } from "./verify-params.ts";

const tensor = (name: string, shape: readonly number[], dtype: dist.DType = "float32"): ModelTensor => ({
  name,
  data: dist.empty(dtype, shape as readonly [number, number]),
});

const usual = () => [tensor("fc1.weight", [4, 3]), tensor("fc1.bias", [4]), tensor("fc2.weight", [2, 4])];

/** What differs on rank 1, and what all ranks are told. */
const differences: readonly [string, () => ModelTensor[], string][] = [
  [
    "count",
    () => usual().slice(0, 2),
    "DDP expects same model across all ranks, but Rank 0 has 3 params, while rank 1 has inconsistent 2 params; tensor 2 is fc2.weight, float32 of shape [2, 4], on rank 0, and missing on rank 1.",
  ],
  [
    "shape",
    () => [tensor("fc1.weight", [4, 5]), ...usual().slice(1)],
    "DDP expects same model across all ranks, but tensor 0 is fc1.weight, float32 of shape [4, 3], on rank 0, and fc1.weight, float32 of shape [4, 5], on rank 1",
  ],
  [
    "order",
    () => [usual()[1], usual()[0], usual()[2]] as ModelTensor[],
    "tensor 0 is fc1.weight, float32 of shape [4, 3], on rank 0, and fc1.bias, float32 of shape [4], on rank 1",
  ],
  [
    "dtype",
    () => [tensor("fc1.weight", [4, 3], "float64"), ...usual().slice(1)],
    "tensor 0 is fc1.weight, float32 of shape [4, 3], on rank 0, and fc1.weight, float64 of shape [4, 3], on rank 1",
  ],
  [
    "name",
    () => [tensor("fc0.weight", [4, 3]), ...usual().slice(1)],
    "tensor 0 is fc1.weight, float32 of shape [4, 3], on rank 0, and fc0.weight, float32 of shape [4, 3], on rank 1",
  ],
];

describe("ranks whose models differ", () => {
  test.each(differences)("in %s are told so, all of them", async (_, other, message) => {
    const seen = await localRanks(3, async ({ rank, group }) => {
      const parameters = rank === 1 ? other() : usual();
      const error = await verifyParamsAcrossProcesses(group, parameters).catch((thrown: dist.DistError) => thrown);
      const created = await DistributedDataParallel.create({ parameters }).catch((thrown: dist.DistError) => thrown);
      if (!(error instanceof dist.DistError) || !(created instanceof dist.DistError)) throw new Error("no error");
      expect(created.message).toBe(error.message);
      return { code: error.code, peers: error.details.peers, message: error.message };
    });
    expect(seen.map(({ code }) => code)).toEqual(Array(3).fill("PARAMETERS_DIFFER"));
    expect(seen.map(({ peers }) => peers)).toEqual([[1], [0], [1]]);
    expect(seen[0]?.message).toContain(message);
  });

  test.each<[string, object, object, string]>([
    [
      "a buffer",
      { buffers: [tensor("mean", [2])] },
      {},
      "buffer 0 is mean, float32 of shape [2], on rank 0, and missing on rank 1",
    ],
    [
      "a frozen parameter",
      { frozen: "embedding" },
      { frozen: "table" },
      "frozen tensor 0 is embedding, float32 of shape [3], on rank 0, and table",
    ],
    [
      "an option",
      { options: { findUnusedParameters: true } },
      {},
      "option findUnusedParameters is true on rank 0, and false on rank 1",
    ],
    [
      "the size of the first bucket",
      { options: { bucketCapMbList: [1] } },
      {},
      "option bucketSizes is 1048576 on rank 0, and",
    ],
  ])("%s", async (_, first, second, message) => {
    const seen = await localRanks(2, async ({ rank }) => {
      const { frozen, options, buffers } = (rank === 0 ? first : second) as {
        frozen?: string;
        options?: object;
        buffers?: ModelTensor[];
      };
      const parameters = [
        ...usual(),
        ...(frozen === undefined ? [] : [{ ...tensor(frozen, [3]), requiresGrad: false }]),
      ];
      return DistributedDataParallel.create({ parameters, ...(buffers && { buffers }) }, options).then(
        () => "the same",
        (error: dist.DistError) => `${error.code}: ${error.message}`,
      );
    });
    expect(seen[0]).toContain(`PARAMETERS_DIFFER: DDP expects same model across all ranks, but ${message}`);
    expect(seen[1]).toContain("PARAMETERS_DIFFER");
  });

  test("a hook on one rank only", async () => {
    const seen = await localRanks(2, async ({ rank }) => {
      const group = (await dist.newGroup([0, 1])) as dist.ProcessGroup;
      const parameters = [{ name: "w", data: new Float32Array(2) }];
      const ddp = await DistributedDataParallel.create({ parameters }, { group });
      // What it does looks like the exchange of the other rank.
      const average: CommHook = async (_, bucket) => {
        await group.allReduce(bucket.dense(), { op: dist.ReduceOp.AVG });
        return bucket.buffer();
      };
      if (rank === 0) ddp.registerCommHook(undefined, average);
      const step = () =>
        ddp.step((pass) => pass.ready("w", Float32Array.of(1, 2))).catch((error: dist.DistError) => error);
      const [first, second] = [await step(), await step()];
      if (!(first instanceof dist.DistError) || !(second instanceof dist.DistError)) throw new Error("no error");
      return [first.code, first.message, second.code];
    });
    const same = "DDP expects the same hook on all ranks, but communication hook is";
    expect(seen).toEqual([
      ["PARAMETERS_DIFFER", `${same} average on rank 0, and none on rank 1`, "REDUCTION_FAILED"],
      ["PARAMETERS_DIFFER", `${same} none on rank 1, and average on rank 0`, "REDUCTION_FAILED"],
    ]);
  });

  test("in a group that has no store are found by the shapes of rank 0", async () => {
    const seen = await localRanks(2, async ({ rank, group }) => {
      // A group that the library does not know.
      const other = new Proxy(group, {
        get: (target, key) => {
          const value: unknown = Reflect.get(target, key, target);
          return typeof value === "function" ? value.bind(target) : value;
        },
      });
      const parameters = [tensor("w", rank === 0 ? [2, 3] : [3, 1])];
      await verifyParamsAcrossProcesses(other, [tensor("w", [2, 3]), tensor("v", [1, 2])]);
      return verifyParamsAcrossProcesses(other, parameters).then(
        () => "the same",
        (error: Error) => error.message,
      );
    });
    expect(seen).toEqual([
      "the same",
      "[1]: params[0] in this process with sizes [3, 1] appears not to match sizes of the same param in process 0. Here it is w; rank 0 has sizes [2, 3].",
    ]);
  });

  test("no parameters", async () => {
    await localRanks(1, async ({ group }) => {
      await expect(verifyParamsAcrossProcesses(group, [])).rejects.toThrow("Expected at least one parameter.");
    });
  });
});
