import { describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "../../errors/index.ts";
import * as dist from "../../index.ts";
import { type LocalRank, localRanks } from "../../testing/index.ts";
import { train } from "./fixtures/given-gradients.ts";
import { PeriodicModelAverager } from "./periodic-model-averager.ts";
import { type PostLocalSGDOptions, PostLocalSGDState, postLocalSGDHook } from "./post-local-sgd.ts";

/** The ranks 0 and 1, and 2 and 3, as if they were two hosts. */
async function pairOf(rank: number): Promise<dist.ProcessGroup> {
  const pairs = [await dist.newGroup([0, 1]), await dist.newGroup([2, 3])];
  return pairs[Math.floor(rank / 2)] as dist.ProcessGroup;
}

/** What each of four ranks gets in each step, where each has its number plus 1 as gradient. */
function averages(options: (rank: LocalRank) => PromiseLike<PostLocalSGDOptions>): Promise<(number | undefined)[][]> {
  return localRanks(4, async (rank) => {
    const state = new PostLocalSGDState(await options(rank));
    const steps = await train({
      shapes: { a: [3], b: [2] },
      steps: 4,
      bucketCapMb: 1e-6,
      gradient: () => rank.rank + 1,
      register: (model) => model.registerCommHook(state, postLocalSGDHook),
    });
    expect(state.iter).toBe(Math.min(4, state.startLocalSGDIter));
    return steps.map(({ a, b }) => (a?.[0] === b?.[1] ? a?.[0] : Number.NaN));
  });
}

describe("postLocalSGDHook", () => {
  test("averages over all ranks at the start, and then over the subgroup", async () => {
    const options = async ({ rank }: LocalRank) => ({ startLocalSGDIter: 2, subgroup: await pairOf(rank) });
    expect(await averages(options)).toEqual([
      [2.5, 2.5, 1.5, 1.5],
      [2.5, 2.5, 1.5, 1.5],
      [2.5, 2.5, 3.5, 3.5],
      [2.5, 2.5, 3.5, 3.5],
    ]);
  });

  test("or not at all", async () => {
    const options = async () => ({ startLocalSGDIter: 1, postLocalGradientAllreduce: false });
    expect(await averages(options)).toEqual([1, 2, 3, 4].map((own) => [2.5, own, own, own]));
  });

  test("the group may be another one than that of the bucket", async () => {
    const options = async ({ rank }: LocalRank) => {
      const group = await pairOf(rank);
      return { startLocalSGDIter: 9, group, subgroup: group };
    };
    expect(await averages(options)).toEqual([1.5, 1.5, 3.5, 3.5].map((each) => [each, each, each, each]));
  });

  test("takes a PostLocalSGDState only", async () => {
    const run = localRanks(1, () =>
      train({
        shapes: { a: [1] },
        steps: 1,
        gradient: () => 1,
        register: (model) => model.registerCommHook(undefined as unknown as PostLocalSGDState, postLocalSGDHook),
      }),
    );
    await expect(run).rejects.toThrow("postLocalSGDHook: its state is a PostLocalSGDState");
  });

  test.each<[unknown, RegExp]>([
    [{ postLocalGradientAllreduce: false }, /startLocalSGDIter must be an integer from 0 on, got undefined/],
    [{ startLocalSGDIter: -1 }, /startLocalSGDIter must be an integer from 0 on, got -1/],
    [{ startLocalSGDIter: 1 }, /subgroup must be the group of this rank, got undefined; make one for each host/],
    [{ startLocalSGDIter: 1, postLocalGradientAllreduce: "no" }, /postLocalGradientAllreduce must be true or false/],
    [{ startLocalSGDIter: 1, subGroup: null }, /unknown option subGroup.*subgroup/],
  ])("options %j are refused", (options, message) => {
    const make = () => new PostLocalSGDState(options as PostLocalSGDOptions);
    expect(make).toThrow(InvalidArgumentError);
    expect(make).toThrow(message);
  });
});

describe("with PeriodicModelAverager", () => {
  test("models drift apart, and are averaged from time to time", async () => {
    const models = await localRanks(2, async ({ rank }) => {
      const averager = new PeriodicModelAverager({ period: 2, warmupSteps: 1 });
      const seen: number[][] = [];
      const state = new PostLocalSGDState({ startLocalSGDIter: 1, postLocalGradientAllreduce: false });
      await train({
        shapes: { a: [2] },
        steps: 5,
        gradient: () => rank + 1,
        register: (model) => model.registerCommHook(state, postLocalSGDHook),
        after: async ({ a = [] }, _, model) => {
          const values = model.parameters[0]?.source.data as Float32Array;
          for (const [i, gradient] of a.entries()) values[i] = (values[i] as number) - gradient;
          const own = values[0] as number;
          await averager.averageParameters(model.parameters);
          seen.push([own, values[0] as number]);
        },
      });
      return seen;
    });
    // The gradients are 1.5 in the first step, and then 1 and 2.
    expect(models).toEqual([
      [
        [-0.5, -0.5],
        [-1.5, -2],
        [-3, -3],
        [-4, -5],
        [-6, -6],
      ],
      [
        [-0.5, -0.5],
        [-2.5, -2],
        [-4, -4],
        [-6, -5],
        [-7, -7],
      ],
    ]);
  });
});
