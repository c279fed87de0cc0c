import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { ForkedPython } from "./forked-python.ts";
import { freePort, peerEnvironment, runProgram } from "./programs.ts";
import { randomTraining } from "./random-training.ts";
import { describeWithTorch, fixture } from "./torch.ts";
import {
  loggedNames,
  type PlannedIteration,
  type PlannedTensor,
  type TrainingPlan,
  type TrainingReport,
} from "./training-plan.ts";

setDefaultTimeout(120_000);

type Kind = TrainingReport["kind"];

/** Largest difference of two numbers that count as equal: more than two ranks may add in another order. */
const TOLERANCE = 1e-6;
const limitMs = 60_000;

const parameters: readonly PlannedTensor[] = [
  { name: "w1", shape: [5, 7], dtype: "float32" },
  { name: "b1", shape: [7], dtype: "float32" },
  { name: "scale", shape: [], dtype: "float64" },
  { name: "w2", shape: [7, 3], dtype: "float32" },
  { name: "b2", shape: [3], dtype: "float32" },
];
const buffers: readonly PlannedTensor[] = [
  { name: "mean", shape: [7], dtype: "float32" },
  { name: "count", shape: [], dtype: "float64" },
];
/** 60 bytes: the buckets of the second iteration hold one parameter or two. */
const bucketCapMb = 60 / 2 ** 20;

/** Iterations in which each rank's parameters become ready in the order that `order` gives. */
function iterations(count: number, size: number, order: (iteration: number, rank: number) => readonly number[]) {
  return Array.from({ length: count }, (_, iteration): PlannedIteration => {
    return { sync: true, ready: Array.from({ length: size }, (_, rank) => order(iteration, rank)) };
  });
}

const backwards = [4, 3, 2, 1, 0];
const shuffled = [3, 4, 0, 2, 1];

const earlyEnd = "uneven inputs, as an error";
const plans: Readonly<Record<string, (size: number) => TrainingPlan>> = {
  "all parameters, in another order on each rank": (size) => ({
    options: { bucketCapMb },
    parameters,
    buffers,
    iterations: iterations(4, size, (_, rank) => (rank === 0 ? shuffled : backwards)),
  }),
  gradientAsBucketView: (size) => ({
    options: { bucketCapMb, gradientAsBucketView: true },
    parameters,
    buffers: [],
    iterations: iterations(4, size, () => shuffled),
  }),
  "findUnusedParameters, with some used nowhere": (size) => ({
    options: { bucketCapMb, findUnusedParameters: true },
    parameters,
    buffers,
    // Parameter 2 is used by no rank in iteration 1; parameter 0 by rank 0 only.
    iterations: iterations(4, size, (iteration, rank) =>
      backwards.filter((each) => !(each === 2 && iteration === 1) && !(each === 0 && rank > 0)),
    ),
  }),
  "findUnusedParameters and gradientAsBucketView": (size) => ({
    options: { bucketCapMb, findUnusedParameters: true, gradientAsBucketView: true },
    parameters,
    buffers: [],
    iterations: iterations(3, size, (iteration, rank) =>
      backwards.filter((each) => (each + iteration + rank) % 3 !== 0),
    ),
  }),
  staticGraph: (size) => ({
    options: { bucketCapMb, staticGraph: true },
    parameters,
    buffers,
    iterations: iterations(4, size, () => [4, 1, 3, 0]),
  }),
  no_sync: (size) => ({
    options: { bucketCapMb },
    parameters,
    buffers,
    iterations: iterations(6, size, () => backwards).map((each, i) => ({ ...each, sync: ![0, 3, 4].includes(i) })),
  }),
  "the builtin hook ALLREDUCE": (size) => ({
    options: { bucketCapMb },
    builtinHook: "ALLREDUCE",
    parameters,
    buffers: [],
    iterations: iterations(3, size, () => backwards),
  }),
  "the builtin hook FP16_COMPRESS": (size) => ({
    options: { bucketCapMb },
    builtinHook: "FP16_COMPRESS",
    parameters,
    buffers: [],
    iterations: iterations(3, size, () => backwards),
  }),
  "a sparse gradient": (size) => ({
    options: {},
    parameters: [...parameters.slice(1, 3), { name: "table.weight", shape: [6, 3], dtype: "float32", sparse: true }],
    buffers: [],
    iterations: iterations(3, size, () => [2, 1, 0]),
  }),
  "uneven inputs": (size) => ({
    options: { bucketCapMb },
    parameters,
    buffers,
    iterations: iterations(5, size, () => backwards),
    join: {
      counts: Array.from({ length: size }, (_, rank) => (rank === 0 ? 2 : 5 - (rank % 2))),
      divideByInitialWorldSize: true,
      throwOnEarlyTermination: false,
    },
  }),
  "uneven inputs, divided by the ranks that are left, with unused parameters": (size) => ({
    options: { bucketCapMb, findUnusedParameters: true },
    parameters,
    buffers,
    iterations: iterations(5, size, (_, rank) => (rank === 0 ? backwards : backwards.slice(1))),
    join: {
      counts: Array.from({ length: size }, (_, rank) => (rank === 0 ? 5 : 3)),
      divideByInitialWorldSize: false,
      throwOnEarlyTermination: false,
    },
  }),
  [earlyEnd]: (size) => ({
    options: { bucketCapMb },
    parameters,
    buffers: [],
    iterations: iterations(4, size, () => backwards),
    join: {
      counts: Array.from({ length: size }, (_, rank) => (rank === 0 ? 2 : 4)),
      divideByInitialWorldSize: true,
      throwOnEarlyTermination: true,
    },
  }),
};

/** Seed of the random trainings; `C10D_FUZZ_SEED` repeats one. */
const seed = Number(process.env.C10D_FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 31));
const randomCount = process.env.C10D_SWEEP === "full" ? 60 : 6;

/** All trainings of jobs of a size, by name. */
function plansFor(size: number): Readonly<Record<string, TrainingPlan>> {
  const random = fc.sample(randomTraining(size), { seed, numRuns: randomCount });
  return {
    ...Object.fromEntries(Object.entries(plans).map(([name, planFor]) => [name, planFor(size)])),
    ...Object.fromEntries(random.map((plan, i) => [`random ${i} of seed ${seed}`, plan])),
  };
}

describeWithTorch("DistributedDataParallel with PyTorch", (python) => {
  console.log(`random trainings have C10D_FUZZ_SEED=${seed}`);
  let pythons: ForkedPython;
  let results = "";
  beforeAll(async () => {
    results = mkdtempSync(join(tmpdir(), "c10d-ddp-"));
    pythons = await ForkedPython.start(python, peerEnvironment, ["torch.nn.parallel"]);
  });
  afterAll(async () => {
    await pythons[Symbol.asyncDispose]();
    rmSync(results, { recursive: true });
  });

  /** Runs a job that carries out all plans; returns what its ranks report, by rank. */
  async function run(
    kinds: readonly Kind[],
    given = plansFor(kinds.length),
  ): Promise<Readonly<Record<string, TrainingReport>>[]> {
    const folder = mkdtempSync(join(results, "run-"));
    const port = String(freePort());
    const argument = JSON.stringify(given);
    const ended = await Promise.all(
      kinds.map((kind, rank) => {
        const env = {
          ...{ RANK: String(rank), WORLD_SIZE: String(kinds.length), MASTER_ADDR: "127.0.0.1", MASTER_PORT: port },
          RESULT_FOLDER: folder,
        };
        if (kind === "Bun") return runProgram([process.execPath, fixture("ddp-rank.ts"), argument], env, limitMs);
        return pythons.run({ argv: [fixture("ddp_rank.py"), argument, loggedNames.join(",")] }, env, limitMs);
      }),
    );
    const failed = ended.filter(({ code }) => code !== 0).map(({ code, stderr }) => `${code}: ${stderr.slice(-2000)}`);
    expect(failed).toEqual([]);
    expect(readdirSync(folder).length).toBe(kinds.length);
    return kinds.map((_, rank) => JSON.parse(readFileSync(join(folder, String(rank)), "utf8")));
  }

  /** What must be the same whatever ranks run in. */
  function outcome({ gradients, buffers: seen, parameters: values, logged, error }: TrainingReport, exact: boolean) {
    const rounded = (numbers: readonly number[]) => (exact ? numbers : numbers.map((n) => Math.round(n / TOLERANCE)));
    return {
      gradients: gradients.map((all) => all.map((each) => (each === "none" ? each : rounded(each)))),
      buffers: seen.map((all) => all.map(rounded)),
      parameters: values.map(rounded),
      logged,
      // PyTorch's have more text around it.
      error:
        error === undefined
          ? undefined
          : (/Rank \d+ exhausted all inputs|Detected at least one rank that exhausted inputs/.exec(error)?.[0] ??
            error),
    };
  }

  const pairs: readonly (readonly Kind[])[] = [
    ["Bun", "Bun"],
    ["Bun", "Python"],
    ["Python", "Bun"],
  ];
  const larger: readonly (readonly Kind[])[] = [
    ["Bun", "Python", "Python"],
    ["Python", "Bun", "Bun"],
    ["Python", "Bun", "Python", "Bun"],
  ];
  const ofPython = new Map<number, Promise<Readonly<Record<string, TrainingReport>>[]>>();

  test.each([...pairs, ...larger].map((kinds) => [kinds.join(", "), kinds] as const))("%s", async (_, kinds) => {
    const { length } = kinds;
    const expected = await ofPython.getOrInsertComputed(length, () => run(kinds.map(() => "Python" as const)));
    const reports = await run(kinds);
    for (const [name, plan] of Object.entries(plansFor(length))) {
      const own = reports.map((each) => each[name] as TrainingReport);
      const theirs = expected.map((each) => each[name] as TrainingReport);
      expect(own.map(({ kind }) => kind)).toEqual([...kinds]);
      // Two numbers have one sum. Of three or more, the order in which they are added decides.
      const exact = length === 2;
      expect({ plan, name, ranks: own.map((each) => outcome(each, exact)) }).toEqual({
        plan,
        name,
        ranks: theirs.map((each) => outcome(each, exact)),
      });
      if (name === earlyEnd) continue;
      expect(own.map(({ error }) => error)).toEqual(kinds.map(() => undefined));
      // Within a job, all ranks have the same bits.
      for (const { parameters: values } of own) expect(values).toEqual([...(own[0]?.parameters ?? [])]);
    }
    expect(reports.map((each) => outcome(each[earlyEnd] as TrainingReport, true).error)).toEqual(
      kinds.map((_, rank) =>
        rank === 0 ? "Rank 0 exhausted all inputs" : "Detected at least one rank that exhausted inputs",
      ),
    );
  });

  test.each([...pairs, ["Python", "Python"] as const].map((kinds) => [kinds.join(", "), kinds] as const))(
    "models that differ: %s",
    async (_, kinds) => {
      const tensors = (...shapes: number[][]): PlannedTensor[] =>
        shapes.map((shape, i) => ({ name: `w${i}`, shape, dtype: "float32" }));
      const differing = (own: PlannedTensor[], otherParameters: PlannedTensor[]): TrainingPlan => {
        return { options: {}, parameters: own, otherParameters, buffers: [], iterations: [] };
      };
      const reports = await run(kinds, {
        count: differing(tensors([2, 3]), tensors([2, 3], [4])),
        shape: differing(tensors([4], [2, 3]), tensors([4], [3, 2])),
      });
      const errors = (name: string) => reports.map((each) => each[name]?.error);
      const counts = "DDP expects same model across all ranks, but Rank";
      expect(errors("count")[0]).toContain(`${counts} 0 has 1 params, while rank 1 has inconsistent 2 params`);
      expect(errors("count")[1]).toContain(`${counts} 1 has 2 params, while rank 0 has inconsistent 1 params`);
      const [first, second] = errors("shape");
      if (kinds.every((kind) => kind === "Bun")) {
        // Both know what the other one has.
        expect(first).toContain(
          "tensor 1 is w1, float32 of shape [2, 3], on rank 0, and w1, float32 of shape [3, 2], on rank 1",
        );
        expect(second).toContain(
          "tensor 1 is w1, float32 of shape [3, 2], on rank 1, and w1, float32 of shape [2, 3], on rank 0",
        );
      } else {
        // It may see that the other one has left.
        if (first !== undefined) expect(first).toMatch(/closed|reset by peer/i);
        expect(second).toContain(
          "[1]: params[1] in this process with sizes [3, 2] appears not to match sizes of the same param in process 0.",
        );
      }
    },
  );
});
