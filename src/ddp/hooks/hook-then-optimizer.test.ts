import { describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "../../errors/index.ts";
import { Tensor } from "../../tensor/index.ts";
import { localRanks } from "../../testing/index.ts";
import { type CommHook, isPipelined } from "../comm-hook.ts";
import { DistributedDataParallel } from "../distributed-data-parallel.ts";
import type { Gradient, Parameter } from "../parameter.ts";
import { allReduceHook } from "./default-hooks.ts";
import { hookThenOptimizer, type StepwiseOptimizer } from "./hook-then-optimizer.ts";

/** Subtracts gradients, and notes what it gets. */
class Descent implements StepwiseOptimizer {
  readonly steps: { readonly name: string; readonly gradient: number[]; readonly shape: readonly number[] }[] = [];

  stepParameter(parameter: Parameter, gradient: Gradient): void {
    if (!(gradient instanceof Tensor)) throw new Error("not a dense gradient");
    const values = parameter.source.data as Float32Array;
    const numbers = gradient.toNumbers();
    for (const [i, number] of numbers.entries()) values[i] = (values[i] as number) - number;
    this.steps.push({ name: parameter.name, gradient: numbers, shape: gradient.shape });
  }
}

interface Given {
  readonly hook?: CommHook<undefined>;
  readonly inBackward?: boolean;
  readonly only?: string;
}

/** A step of two ranks, with averages of 1.5. */
function trained({ hook = allReduceHook, inBackward = false, only }: Given) {
  return localRanks(2, async ({ rank }) => {
    const [a, b] = [new Float32Array(4).fill(10), new Float32Array(3).fill(20)];
    const model = await DistributedDataParallel.create({
      parameters: [
        { name: "a", data: a, shape: [2, 2] },
        { name: "b", data: b },
      ],
    });
    const optimizer = new Descent();
    const chosen = only === undefined ? undefined : model.parameters.filter(({ name }) => name === only);
    model.registerCommHook(undefined, hookThenOptimizer(hook, optimizer, chosen));
    if (inBackward) model.reducer.setOptimizerInBackward();
    await model.step((pass) => {
      pass.ready("b", new Float32Array(3).fill(rank + 1));
      pass.ready("a", new Float32Array(4).fill(rank + 1));
    });
    return { steps: optimizer.steps, a: [...a], b: [...b], gradient: model.gradient("a") };
  });
}

describe("hookThenOptimizer", () => {
  test("updates each parameter by the average, in its shape", async () => {
    for (const { steps, a, b, gradient } of await trained({})) {
      expect(steps.toSorted((one, other) => one.name.localeCompare(other.name))).toEqual([
        { name: "a", gradient: [1.5, 1.5, 1.5, 1.5], shape: [2, 2] },
        { name: "b", gradient: [1.5, 1.5, 1.5], shape: [3] },
      ]);
      expect([a, b]).toEqual([
        [8.5, 8.5, 8.5, 8.5],
        [18.5, 18.5, 18.5],
      ]);
      expect(gradient).toEqual(new Float32Array(4).fill(1.5));
    }
  });

  test("with setOptimizerInBackward() there are no gradients afterwards", async () => {
    for (const { a, gradient } of await trained({ inBackward: true })) {
      expect(a).toEqual([8.5, 8.5, 8.5, 8.5]);
      expect(gradient).toBeUndefined();
    }
  });

  test("updates only the parameters that it is given", async () => {
    for (const { steps, a, b } of await trained({ only: "b" })) {
      expect(steps.map(({ name }) => name)).toEqual(["b"]);
      expect([a[0], b[0]]).toEqual([10, 18.5]);
    }
  });

  test("updates by what the hook resolves to, also if that is another tensor or a list", async () => {
    const hook: CommHook<undefined> = async (_, bucket) => [new Float32Array(bucket.length).fill(0.25)];
    for (const { a, gradient } of await trained({ hook })) {
      expect(a).toEqual([9.75, 9.75, 9.75, 9.75]);
      expect(gradient).toEqual(new Float32Array(4).fill(0.25));
    }
  });

  test("nothing is updated if the hook fails", async () => {
    const updated: string[] = [];
    const run = localRanks(1, async () => {
      const model = await DistributedDataParallel.create({ parameters: [{ name: "a", data: new Float32Array(2) }] });
      const optimizer: StepwiseOptimizer = { stepParameter: ({ name }) => void updated.push(name) };
      const failing: CommHook = async () => {
        throw new Error("no network");
      };
      model.registerCommHook(undefined, hookThenOptimizer(failing, optimizer));
      await model.step((pass) => pass.ready("a", new Float32Array(2)));
    });
    await expect(run).rejects.toThrow(/communication hook hookThenOptimizerHook failed in bucket 0 \(a\): no network/);
    expect(updated).toEqual([]);
  });

  test("several buckets may be in flight if the hook allows that", () => {
    const unmarked: CommHook = async (_, bucket) => bucket.buffer();
    const optimizer = new Descent();
    expect(isPipelined(hookThenOptimizer(allReduceHook, optimizer))).toBe(true);
    expect(isPipelined(hookThenOptimizer(unmarked, optimizer))).toBe(false);
  });

  test.each<[unknown, unknown, RegExp]>([
    [undefined, new Descent(), /hook must be a communication hook/],
    [allReduceHook, undefined, /optimizer must have a method stepParameter\(parameter, gradient\), got undefined/],
    [allReduceHook, { step() {} }, /optimizer must have a method stepParameter/],
  ])("refuses what is no hook, or no optimizer: %#", (hook, optimizer, message) => {
    const make = () => hookThenOptimizer(hook as CommHook, optimizer as StepwiseOptimizer);
    expect(make).toThrow(InvalidArgumentError);
    expect(make).toThrow(message);
  });
});
