import fc from "fast-check";
import type { PlannedIteration, PlannedTensor, TrainingPlan } from "./training-plan.ts";

const shape = fc.array(fc.integer({ min: 1, max: 6 }), { maxLength: 3 });
const dtype = fc.constantFrom("float32", "float64");
const tensors = (name: string, count: fc.ArrayConstraints): fc.Arbitrary<PlannedTensor[]> =>
  fc
    .array(fc.record({ shape, dtype }), count)
    .map((all) => all.map((each, i): PlannedTensor => ({ name: `${name}${i}`, ...each })));

const options = fc.record({
  bucketCapMb: fc.oneof(
    fc.constant(25),
    fc.integer({ min: 8, max: 400 }).map((bytes) => bytes / 2 ** 20),
  ),
  gradientAsBucketView: fc.boolean(),
  graph: fc.constantFrom("all", "unused", "static"),
});

/** Orders in which a rank's parameters become ready, some of them left out. */
function ready(count: number, graph: "all" | "unused" | "static", size: number): fc.Arbitrary<number[][]> {
  const all = Array.from({ length: count }, (_, i) => i);
  const minLength = graph === "unused" ? 1 : count;
  return fc.array(fc.shuffledSubarray(all, { minLength }), { minLength: size, maxLength: size });
}

/** Trainings of `size` ranks that PyTorch accepts. */
export function randomTraining(size: number): fc.Arbitrary<TrainingPlan> {
  return fc
    .tuple(tensors("p", { minLength: 1, maxLength: 8 }), tensors("buffer", { maxLength: 3 }), options)
    .chain(([parameters, buffers, { graph, ...others }]) => {
      const count = parameters.length;
      const iteration: fc.Arbitrary<PlannedIteration> = fc.record({
        sync: graph === "static" ? fc.constant(true) : fc.boolean(),
        ready: ready(count, graph, size),
      });
      return fc
        .tuple(
          fc.array(iteration, { minLength: 2, maxLength: 6 }),
          fc.subarray([...parameters.keys()], { minLength: 1 }),
          fc.option(
            fc.record({
              counts: fc.array(fc.integer({ min: 1, max: 6 }), { minLength: size, maxLength: size }),
              divideByInitialWorldSize: fc.boolean(),
            }),
          ),
        )
        .map(([iterations, used, join]): TrainingPlan => {
          // A static graph uses the same parameters in all iterations.
          const kept = (order: readonly number[]) =>
            graph === "static" ? order.filter((each) => used.includes(each)) : order;
          return {
            options: { ...others, findUnusedParameters: graph === "unused", staticGraph: graph === "static" },
            parameters,
            buffers,
            iterations: iterations.map((each) => ({ ...each, ready: each.ready.map(kept) })),
            // A rank of PyTorch that has joined goes on to report what it used in its last iteration as used; ours does not.
            // And it does not know how the first iteration of a static graph ends.
            ...(join !== null &&
              graph === "all" && {
                join: {
                  ...join,
                  counts: join.counts.map((each) => Math.min(each, iterations.length)),
                  throwOnEarlyTermination: false,
                },
              }),
          };
        });
    });
}
