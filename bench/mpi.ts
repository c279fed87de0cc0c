/**
 * MPI with 2 ranks: `wait()` and `await` compared with the same calls from C++, which take turns in the same processes.
 *
 *     bun bench/mpi.ts [--implementation openmpi] [--rounds 9] [--sizes 4,1024,65536,1048576,16777216] [--ops
 *     all-reduce] [--torch] [--before DIR [--jobs 4]] [--json]
 *
 * `--torch` also measures the all-reduce of `torch.distributed` over Gloo, and prints how many times as long it takes.
 * `--before` names another checkout with its build, such as an earlier commit: jobs of both take turns, `--jobs` of
 * each.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Contender, repetitions } from "./harness/contender.ts";
import { median, showBytes, showMicros, table } from "./harness/samples.ts";
import { OWN_TREE, shimsOf } from "./harness/tree.ts";

/** Medians of the rounds, in microseconds, by caller. */
export interface MpiLine {
  readonly op: string;
  readonly bytes: number;
  readonly medians: Readonly<Record<"blocking" | "nonblocking" | "wait" | "await", readonly number[]>>;
}

export interface MpiPlan {
  readonly implementation: string;
  readonly ops: readonly string[];
  readonly sizes: readonly number[];
  readonly rounds: number;
  /** Another checkout with its build, which is measured instead of this one. */
  readonly tree?: string;
}

/** Runs the job of 2 ranks. */
export async function measureMpi({ implementation, tree = OWN_TREE, ...plan }: MpiPlan): Promise<readonly MpiLine[]> {
  const folder = shimsOf(tree);
  const library = join(folder, `libmpi_bench_${implementation}.so`);
  const free = implementation === "openmpi" ? ["--oversubscribe", "--bind-to", "none"] : [];
  const rank = join(tree, "bench/ranks/mpi-rank.ts");
  const job = Bun.spawn({
    cmd: [`mpirun.${implementation}`, ...free, "-n", "2", process.execPath, rank, JSON.stringify({ library, ...plan })],
    env: {
      ...process.env,
      C10D_NATIVE_DIR: folder,
      NO_COLOR: "1",
      OMPI_ALLOW_RUN_AS_ROOT: "1",
      OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1",
    },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  const output = await new Response(job.stdout).text();
  if ((await job.exited) !== 0) throw new Error(`the ranks failed:\n${output}`);
  return output
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as MpiLine);
}

/** Median over the rounds of `combine` applied to two parties' medians. */
export function overRounds(
  of: readonly number[],
  to: readonly number[],
  combine: (value: number, yardstick: number) => number,
): number {
  return median(of.map((value, i) => combine(value, to[i] ?? Number.NaN)));
}

const quotient = (value: number, yardstick: number): number => value / yardstick;

function report(lines: readonly MpiLine[]): string {
  const rows = lines.map(({ op, bytes, medians }) => [
    op,
    showBytes(bytes),
    showMicros(median(medians.blocking)),
    showMicros(median(medians.nonblocking)),
    showMicros(median(medians.wait)),
    showMicros(median(medians.await)),
    overRounds(medians.wait, medians.blocking, quotient).toFixed(2),
    overRounds(medians.wait, medians.nonblocking, quotient).toFixed(2),
  ]);
  return table([["op", "bytes", "C++", "C++ MPI_I…", "wait()", "await", "wait/C++", "wait/C++ MPI_I…"], ...rows]);
}

/** Times of one op and size in this checkout and in the earlier one, with rounds paired by their index in the job. */
interface Pair {
  readonly own: MpiLine;
  readonly before: MpiLine;
}

/** Jobs of both take turns, so that each round of one has a round of the other shortly before or after it. */
async function compareWithBefore(plan: MpiPlan, before: string, jobs: number): Promise<readonly Pair[]> {
  const own: (readonly MpiLine[])[] = [];
  const earlier: (readonly MpiLine[])[] = [];
  for (let job = 0; job < jobs; job++) {
    own.push(await measureMpi(plan));
    earlier.push(await measureMpi({ ...plan, tree: before }));
  }
  const befores = joined(earlier);
  return joined(own).flatMap((line, i) => {
    const other = befores[i];
    return other === undefined ? [] : [{ own: line, before: other }];
  });
}

/** The lines of several jobs of one plan, merged as if from one job with all rounds. */
function joined(jobs: readonly (readonly MpiLine[])[]): readonly MpiLine[] {
  const [first = []] = jobs;
  return first.map(({ op, bytes }, i) => {
    const all = (party: keyof MpiLine["medians"]): readonly number[] =>
      jobs.flatMap((job) => job[i]?.medians[party] ?? []);
    const medians = {
      blocking: all("blocking"),
      nonblocking: all("nonblocking"),
      wait: all("wait"),
      await: all("await"),
    };
    return { op, bytes, medians };
  });
}

function reportBefore(pairs: readonly Pair[]): string {
  const rows = pairs.map(({ own, before }) => {
    const against = (party: keyof MpiLine["medians"]): readonly string[] => [
      showMicros(median(own.medians[party])),
      showMicros(median(before.medians[party])),
      overRounds(own.medians[party], before.medians[party], quotient).toFixed(2),
      showMicros(overRounds(own.medians[party], before.medians[party], (now, then) => now - then)),
    ];
    return [own.op, showBytes(own.bytes), ...against("wait"), ...against("await"), ...against("blocking").slice(0, 3)];
  });
  const headed = (name: string): readonly string[] => [name, "before", "ratio", "extra"];
  return table([["op", "bytes", ...headed("wait()"), ...headed("await"), ...headed("C++").slice(0, 3)], ...rows]);
}

async function compareWithTorch(lines: readonly MpiLine[]): Promise<string> {
  const rows = [["all-reduce", "wait()", "torch.distributed, gloo", "times as long"]];
  await using torch = await Contender.torch();
  for (const { op, bytes, medians } of lines) {
    if (op !== "all-reduce") continue;
    const { micros } = await torch.run({ mode: "wait", op, ...repetitions(bytes), buffers: 4 });
    const [own, other] = [median(medians.wait), median(micros)];
    rows.push([showBytes(bytes), showMicros(own), showMicros(other), (other / own).toFixed(1)]);
  }
  return table(rows);
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      implementation: { type: "string", default: "openmpi" },
      rounds: { type: "string", default: "9" },
      sizes: { type: "string", default: "4,1024,65536,1048576,16777216" },
      ops: { type: "string", default: "all-reduce,broadcast,all-to-all" },
      torch: { type: "boolean", default: false },
      before: { type: "string" },
      jobs: { type: "string", default: "4" },
      json: { type: "boolean", default: false },
    },
  });
  const plan: MpiPlan = {
    implementation: values.implementation,
    ops: values.ops.split(","),
    sizes: values.sizes.split(",").map(Number),
    rounds: Number(values.rounds),
  };
  const title = `${values.implementation}, 2 ranks, medians of ${values.rounds} rounds`;
  if (values.before !== undefined) {
    const pairs = await compareWithBefore(plan, values.before, Number(values.jobs));
    console.log(values.json ? JSON.stringify(pairs) : `${title} in ${values.jobs} jobs each\n${reportBefore(pairs)}`);
  } else {
    const lines = await measureMpi(plan);
    if (values.json) {
      console.log(JSON.stringify(lines));
    } else {
      if (values.torch) console.log(await compareWithTorch(lines));
      console.log(`${title}\n${report(lines)}`);
    }
  }
}
