/**
 * Measures the budgets of the project with short runs. The gate of a line is its goal plus an allowance for other load
 * on a small machine. A line over its gate is measured again, up to three times: other load comes and goes, while what
 * has become slower is over the gate each time. Gates are higher on a slower machine, see {@link slowness}.
 *
 *     bun bench/budgets.ts [--check]     with --check, a line over its gate is a failure
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { glooWays } from "./gloo.ts";
import { torchPython } from "./harness/contender.ts";
import { Field, type Figures } from "./harness/field.ts";
import { median } from "./harness/samples.ts";
import { measureFirstAllReduce, measureImport } from "./import.ts";
import { measureMpi, overRounds } from "./mpi.ts";
import { uccWays } from "./ucc.ts";

interface Budget {
  readonly what: string;
  readonly unit: "ms" | "µs" | "×";
  readonly goal: number;
  readonly gate: number;
}

/** Budgets that are measured together; the figures are in the same order. */
interface Family {
  readonly budgets: readonly Budget[];
  measure(): Promise<readonly number[]> | readonly number[];
}

const KB = 2 ** 10;
const MB = 2 ** 20;
/** Another thread wakes the event loop: the same code varies from 7 to 65 µs within an hour, on every backend. */
const AWAIT_GATE = 90;
/** Milliseconds that importing all of Effect takes on the machines that the gates were set on. */
const EFFECT_MS = 90;
/** How many times as long this machine takes for that, which is no code of ours; 1 for a faster one. */
const slowness = Math.max(1, measureImport(5, "import-effect").extra / EFFECT_MS);
const hasTorch = torchPython() !== undefined;
const built = fileURLToPath(new URL("../build/release", import.meta.url));

const one = (budget: Budget, measure: () => Promise<number> | number): Family => ({
  budgets: [budget],
  measure: async () => [await measure()],
});

/** Times of `party` for all-reduces of 2 ranks, relative to the first of `among`. */
async function allReduce<Party extends string>(
  field: Field<Party>,
  bytes: number,
  rounds: number,
  among: readonly Party[],
  party: Party,
): Promise<Figures> {
  const figures = (await field.compare("all-reduce", bytes, rounds, among)).get(party);
  if (figures === undefined) throw new Error(`${party} was not measured`);
  return figures;
}

function start(): readonly Family[] {
  return [
    // 170 modules are read: 40 ms with a warm page cache, 65 ms on the same machine after a quarter of an hour idle.
    one({ what: 'import "bun-c10d" over bare Bun', unit: "ms", goal: 40, gate: 90 }, () => measureImport(9).extra),
    one({ what: "first all-reduce of 2 ranks from process start", unit: "ms", goal: 250, gate: 500 }, async () =>
      median(await measureFirstAllReduce(5)),
    ),
  ];
}

type Gloo = Field<keyof ReturnType<typeof glooWays>>;

function gloo(field: Gloo): readonly Family[] {
  const overTorch = (size: string, bytes: number, goal: number, gate: number): Family =>
    one({ what: `gloo wait() over torch.distributed, ${size}`, unit: "×", goal, gate }, async () => {
      return 1 / (await allReduce(field, bytes, 6, ["torch", "wait"], "wait")).gain;
    });
  return [
    one(
      { what: "gloo wait() over libgloo's own all-reduce from C++, 4 B", unit: "×", goal: 1.1, gate: 1.35 },
      async () => {
        return 1 / (await allReduce(field, 4, 30, ["stock", "wait"], "wait")).gain;
      },
    ),
    one(
      { what: "gloo wait() over libgloo's own all-reduce from C++, 16 MB", unit: "×", goal: 1.05, gate: 1.3 },
      async () => {
        return 1 / (await allReduce(field, 16 * MB, 12, ["stock", "wait"], "wait")).gain;
      },
    ),
    one({ what: "gloo wait() over the shim's own code from C++, 4 B", unit: "µs", goal: 1.5, gate: 20 }, async () => {
      return (await allReduce(field, 4, 30, ["C++", "wait"], "wait")).extra;
    }),
    one({ what: "gloo await over wait(), 4 B", unit: "µs", goal: 15, gate: AWAIT_GATE }, async () => {
      return (await allReduce(field, 4, 30, ["wait", "await"], "await")).extra;
    }),
    ...(hasTorch
      ? [overTorch("4 B", 4, 1, 1), overTorch("64 KB", 64 * KB, 1 / 1.4, 1), overTorch("16 MB", 16 * MB, 1 / 1.4, 1.2)]
      : []),
  ];
}

/** With MPI the same process makes the calls from C++ and from TypeScript. PyTorch runs before and after. */
function mpi(implementation: string, torch: Gloo | undefined): Family {
  const name = `mpi (${implementation})`;
  const sizes = [4, 64 * KB, MB, 16 * MB];
  return {
    budgets: [
      { what: `${name} wait() over MPI_Allreduce, 4 B`, unit: "µs", goal: 1.5, gate: 15 },
      { what: `${name} wait() over MPI_Iallreduce and MPI_Test, 4 B`, unit: "µs", goal: 0.5, gate: 15 },
      { what: `${name} wait() over MPI_Iallreduce and MPI_Test, 64 KB`, unit: "×", goal: 1.05, gate: 1.4 },
      { what: `${name} wait() over MPI_Allreduce, 16 MB`, unit: "×", goal: 1.05, gate: 1.8 },
      { what: `${name} await over wait(), 4 B`, unit: "µs", goal: 15, gate: AWAIT_GATE },
      ...(torch
        ? [
            { what: `${name} wait() over torch.distributed, 4 B`, unit: "×", goal: 1 / 40, gate: 1 / 10 } as const,
            { what: `${name} wait() over torch.distributed, 1 MB`, unit: "×", goal: 1 / 4, gate: 1 } as const,
            { what: `${name} wait() over torch.distributed, 16 MB`, unit: "×", goal: 1 / 2, gate: 1.2 } as const,
          ]
        : []),
    ],
    measure: async () => {
      const timesOfTorch = async (): Promise<readonly number[]> => {
        const times: number[] = [];
        for (const bytes of torch ? [4, MB, 16 * MB] : []) {
          if (torch) times.push((await allReduce(torch, bytes, 2, ["torch"], "torch")).median);
        }
        return times;
      };
      const before = await timesOfTorch();
      const lines = await measureMpi({ implementation, ops: ["all-reduce"], sizes, rounds: 9 });
      const after = await timesOfTorch();
      const of = (bytes: number) => {
        const line = lines.find((each) => each.bytes === bytes);
        if (line === undefined) throw new Error(`no figures of ${bytes} bytes`);
        return line.medians;
      };
      const more = (value: number, yardstick: number): number => value - yardstick;
      const times = (value: number, yardstick: number): number => value / yardstick;
      return [
        overRounds(of(4).wait, of(4).blocking, more),
        overRounds(of(4).wait, of(4).nonblocking, more),
        overRounds(of(64 * KB).wait, of(64 * KB).nonblocking, times),
        overRounds(of(16 * MB).wait, of(16 * MB).blocking, times),
        overRounds(of(4).await, of(4).wait, more),
        ...[4, MB, 16 * MB].flatMap((bytes, i) => {
          const [first, second] = [before[i], after[i]];
          if (first === undefined || second === undefined) return [];
          return [median(of(bytes).wait) / Math.sqrt(first * second)];
        }),
      ];
    },
  };
}

function ucc(field: Field<keyof ReturnType<typeof uccWays>>): readonly Family[] {
  const overTorch = (size: string, bytes: number, goal: number, gate: number): Family =>
    one({ what: `ucc wait() over torch.distributed, ${size}`, unit: "×", goal, gate }, async () => {
      return 1 / (await allReduce(field, bytes, 6, ["torch", "wait"], "wait")).gain;
    });
  return [
    one({ what: "ucc wait() over libucc from C++, 4 B", unit: "µs", goal: 1, gate: 15 }, async () => {
      return (await allReduce(field, 4, 20, ["C++", "wait"], "wait")).extra;
    }),
    one({ what: "ucc wait() over libucc from C++, 64 KB", unit: "×", goal: 1.05, gate: 1.5 }, async () => {
      return 1 / (await allReduce(field, 64 * KB, 12, ["C++", "wait"], "wait")).gain;
    }),
    one({ what: "ucc wait() over libucc from C++, 16 MB", unit: "×", goal: 1.05, gate: 1.3 }, async () => {
      return 1 / (await allReduce(field, 16 * MB, 8, ["C++", "wait"], "wait")).gain;
    }),
    one({ what: "ucc await over wait(), 4 B", unit: "µs", goal: 15, gate: AWAIT_GATE }, async () => {
      return (await allReduce(field, 4, 20, ["wait", "await"], "await")).extra;
    }),
    ...(hasTorch
      ? [overTorch("4 B", 4, 1 / 40, 1 / 10), overTorch("1 MB", MB, 1 / 4, 1), overTorch("16 MB", 16 * MB, 1 / 2, 1.2)]
      : []),
  ];
}

const { values } = parseArgs({ options: { check: { type: "boolean", default: false } } });
const show = (value: number, unit: Budget["unit"]): string =>
  unit === "×" ? `${value.toFixed(2)} ×` : `${value.toFixed(1)} ${unit}`;

/** What a ratio allows above 1 is time of our own, too. */
function gateHere({ unit, gate }: Budget): number {
  if (unit !== "×") return gate * slowness;
  return gate > 1 ? 1 + (gate - 1) * slowness : gate;
}

async function judge({ budgets: set, measure }: Family): Promise<void> {
  const budgets = set.map((each) => ({ ...each, gate: gateHere(each) }));
  let figures = await measure();
  const holds = (i: number): boolean => (figures[i] ?? Number.NaN) <= (budgets[i]?.gate ?? 0);
  for (let more = 3; more > 0 && !budgets.every((_, i) => holds(i)); more--) {
    const again = await measure();
    figures = budgets.map((_, i) => (holds(i) ? figures[i] : again[i]) ?? Number.NaN);
  }
  for (const [i, { what, unit, goal, gate }] of budgets.entries()) {
    const figure = figures[i] ?? Number.NaN;
    const good = figure <= gate;
    console.log(
      `budget ${good ? "PASS" : "FAIL"} ${what}: ${show(figure, unit)} (goal ${show(goal, unit)}, gate ${show(gate, unit)})`,
    );
    if (!good && values.check) process.exitCode = 1;
  }
}

function absent(backend: string, file: string, program = "sh"): boolean {
  const missing = [...(existsSync(`${built}/${file}`) ? [] : [file]), ...(Bun.which(program) ? [] : [program])];
  if (missing.length === 0) return false;
  const required = (process.env.C10D_REQUIRE_BACKENDS ?? "").split(",").includes(backend);
  console.log(
    `budget ${required ? "FAIL" : "skip"} ${backend}: ${missing.join(" and ")} is absent (./bootstrap build)`,
  );
  if (required && values.check) process.exitCode = 1;
  return true;
}

if (slowness > 1) console.log(`budget gates allow ${slowness.toFixed(1)} times as much: this machine is slower`);
if (!hasTorch) console.log("budget skip against torch.distributed: PyTorch is absent (./bootstrap torch)");
for (const family of start()) await judge(family);
{
  const others = ["stock", "C++", "wait", "await"] as const;
  await using field = await Field.start(glooWays(), [...(hasTorch ? (["torch"] as const) : []), ...others]);
  for (const family of gloo(field)) await judge(family);
  for (const implementation of ["openmpi", "mpich"]) {
    if (absent("mpi", `lib/libmpi_bench_${implementation}.so`, `mpirun.${implementation}`)) continue;
    await judge(mpi(implementation, hasTorch ? field : undefined));
  }
}
if (!absent("ucc", "bin/ucc_bench")) {
  const others = ["C++", "wait", "await"] as const;
  await using field = await Field.start(uccWays(), [...others, ...(hasTorch ? (["torch"] as const) : [])]);
  for (const family of ucc(field)) await judge(family);
}
