/**
 * MPI by 2 ranks: `wait()` and `await` beside the same calls from C++, which take turns in the same processes.
 *
 *     bun bench/mpi.ts [--implementation openmpi] [--rounds 9] [--sizes 4,1024,65536,1048576,16777216] [--ops all-reduce] [--torch] [--json]
 *
 * With `--torch` the all-reduce of `torch.distributed` over Gloo comes next, to tell how many times as long it takes.
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Contender, repetitions } from "./harness/contender.ts";
import { median, showBytes, showMicros, table } from "./harness/samples.ts";

/** Medians of the rounds, in microseconds, by who made the calls. */
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
}

/** Runs the job of 2 ranks. */
export async function measureMpi({ implementation, ...plan }: MpiPlan): Promise<readonly MpiLine[]> {
  const folder = process.env.C10D_NATIVE_DIR ?? fileURLToPath(new URL("../build/release/lib", import.meta.url));
  const library = `${folder}/libmpi_bench_${implementation}.so`;
  const free = implementation === "openmpi" ? ["--oversubscribe", "--bind-to", "none"] : [];
  const rank = fileURLToPath(new URL("./ranks/mpi-rank.ts", import.meta.url));
  const job = Bun.spawn({
    cmd: [`mpirun.${implementation}`, ...free, "-n", "2", process.execPath, rank, JSON.stringify({ library, ...plan })],
    env: { ...process.env, NO_COLOR: "1", OMPI_ALLOW_RUN_AS_ROOT: "1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1" },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  const output = await new Response(job.stdout).text();
  if ((await job.exited) !== 0) throw new Error(`the ranks have failed:\n${output}`);
  return output
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as MpiLine);
}

/** Median over the rounds of what `combine` makes of two parties' medians. */
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
      json: { type: "boolean", default: false },
    },
  });
  const lines = await measureMpi({
    implementation: values.implementation,
    ops: values.ops.split(","),
    sizes: values.sizes.split(",").map(Number),
    rounds: Number(values.rounds),
  });
  if (values.json) {
    console.log(JSON.stringify(lines));
  } else {
    if (values.torch) console.log(await compareWithTorch(lines));
    console.log(`${values.implementation}, 2 ranks, medians of ${values.rounds} rounds`);
    console.log(report(lines));
  }
}
