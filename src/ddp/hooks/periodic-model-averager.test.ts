import { describe, expect, spyOn, test } from "bun:test";
import { InvalidArgumentError } from "../../errors/index.ts";
import * as dist from "../../index.ts";
import { type Tensor, type TensorLike, tensor } from "../../tensor/index.ts";
import { localRanks } from "../../testing/index.ts";
import { Parameter } from "../parameter.ts";
import { PeriodicModelAverager, type PeriodicModelAveragerOptions } from "./periodic-model-averager.ts";

/** A parameter that has a gradient. */
function trainedParameter(name: string, data: TensorLike, received?: (values: TensorLike) => void): Parameter {
  const parameter = new Parameter({ name, data, ...(received !== undefined && { received }) });
  parameter.grad = data;
  return parameter;
}

describe("averageParameters", () => {
  test("after the warm-up, in every period", async () => {
    const [steps] = await localRanks(2, async ({ rank }) => {
      const averager = new PeriodicModelAverager({ period: 3, warmupSteps: 2 });
      const data = new Float32Array(1);
      const parameters = [trainedParameter("a", data)];
      const seen: [boolean, number][] = [];
      for (let step = 0; step < 9; step++) {
        data[0] = rank;
        seen.push([await averager.averageParameters(parameters), data[0]]);
      }
      expect(averager.step).toBe(9);
      return seen.flatMap(([was, value], step) => (was || value !== 0 ? [[step, was, value]] : []));
    });
    expect(steps).toEqual([
      [2, true, 0.5],
      [5, true, 0.5],
      [8, true, 0.5],
    ]);
  });

  test("dtypes are kept, and what copies its values is notified", async () => {
    const results = await localRanks(2, async ({ rank }) => {
      const averager = new PeriodicModelAverager({ period: 2 });
      const half = tensor([rank, 3], { dtype: "bfloat16" });
      const wide = Float64Array.of(rank + 2 ** -40);
      const received: unknown[] = [];
      const unused = new Parameter({ name: "unused", data: Float32Array.of(rank) });
      const parameters = [trainedParameter("half", half, (values) => received.push(values)), unused];
      await averager.averageParameters([...parameters, trainedParameter("wide", wide)]);
      return { half: half.toNumbers(), wide: [...wide], unused: unused.source.data, received: received as Tensor[] };
    });
    for (const [rank, { half, wide, unused, received }] of results.entries()) {
      expect(half).toEqual([0.5, 3]);
      expect(wide).toEqual([0.5 + 2 ** -40]);
      expect(unused).toEqual(Float32Array.of(rank));
      expect(received.map((each) => each.toNumbers())).toEqual([[0.5, 3]]);
    }
  });

  test("over a group; ranks outside of it do nothing", async () => {
    const values = await localRanks(3, async ({ rank }) => {
      const group = await dist.newGroup([0, 2]);
      const averager = new PeriodicModelAverager({ period: 2, group });
      const data = Float32Array.of(rank);
      await averager.averageParameters([trainedParameter("a", data)]);
      return data[0];
    });
    expect(values).toEqual([1, 1, 1]);
  });

  test("without any gradient, or of real and complex parameters, it fails", async () => {
    await localRanks(1, async () => {
      const parameter = new Parameter({ name: "a", data: new Float32Array(1) });
      const averager = new PeriodicModelAverager({ period: 2, warmupSteps: 0 });
      await expect(averager.averageParameters([parameter])).rejects.toThrow("no parameter has a gradient");
      await averager.averageParameters([]);
      const complex = trainedParameter("c", tensor([1, 2], { dtype: "complex64" }));
      const mixed = averager.averageParameters([trainedParameter("a", new Float32Array(1)), complex]);
      await expect(mixed).rejects.toThrow(/real and complex parameters cannot be averaged together/);
      await averager.averageParameters([]);
      const wrong = averager.averageParameters([new Float32Array(1) as unknown as Parameter]);
      await expect(wrong).rejects.toThrow(/it takes parameters of DistributedDataParallel.*got Float32Array/);
    });
  });
});

describe("options", () => {
  test.each<[unknown, RegExp]>([
    [{ period: 0 }, /period must be an integer from 1 on, got 0/],
    [{}, /period must be an integer from 1 on, got undefined/],
    [{ period: 2, warmupSteps: -1 }, /warmupSteps must be an integer from 0 on, got -1/],
    [{ period: 2, warmup: 1 }, /unknown option warmup/],
  ])("%j are refused", (options, message) => {
    const make = () => new PeriodicModelAverager(options as PeriodicModelAveragerOptions);
    expect(make).toThrow(InvalidArgumentError);
    expect(make).toThrow(message);
  });

  test("without a group there has to be a default one", () => {
    expect(() => new PeriodicModelAverager({ period: 2 })).toThrow(/initProcessGroup/);
  });

  test("a period of 1 is warned of", () => {
    const warned = spyOn(process, "emitWarning").mockImplementation(() => {});
    try {
      new PeriodicModelAverager({ period: 1, group: null });
      expect(String(warned.mock.calls[0]?.[0])).toContain("DistributedDataParallel alone does that");
    } finally {
      warned.mockRestore();
    }
  });
});
