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

interface Line {
  readonly op: string;
  readonly bytes: number;
  readonly medians: Readonly<Record<"blocking" | "nonblocking" | "wait" | "await", readonly number[]>>;
}

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
const { implementation } = values;
const folder = process.env.C10D_NATIVE_DIR ?? fileURLToPath(new URL("../build/release/lib", import.meta.url));
const plan = {
  library: `${folder}/libmpi_bench_${implementation}.so`,
  ops: values.ops.split(","),
  sizes: values.sizes.split(",").map(Number),
  rounds: Number(values.rounds),
};
const free = implementation === "openmpi" ? ["--oversubscribe", "--bind-to", "none"] : [];
const rank = fileURLToPath(new URL("./ranks/mpi-rank.ts", import.meta.url));
const job = Bun.spawn({
  cmd: [`mpirun.${implementation}`, ...free, "-n", "2", process.execPath, rank, JSON.stringify(plan)],
  env: { ...process.env, NO_COLOR: "1", OMPI_ALLOW_RUN_AS_ROOT: "1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1" },
  stdin: "ignore",
  stdout: "pipe",
  stderr: "inherit",
});
const output = await new Response(job.stdout).text();
if ((await job.exited) !== 0) throw new Error(`the ranks have failed:\n${output}`);
const lines = output
  .split("\n")
  .filter((line) => line.startsWith("{"))
  .map((line) => JSON.parse(line) as Line);

if (values.json) {
  console.log(JSON.stringify(lines));
} else {
  const ratio = (of: readonly number[], to: readonly number[]): number =>
    median(of.map((value, i) => value / (to[i] ?? Number.NaN)));
  const rows = lines.map(({ op, bytes, medians }) => [
    op,
    showBytes(bytes),
    showMicros(median(medians.blocking)),
    showMicros(median(medians.nonblocking)),
    showMicros(median(medians.wait)),
    showMicros(median(medians.await)),
    ratio(medians.wait, medians.blocking).toFixed(2),
    ratio(medians.wait, medians.nonblocking).toFixed(2),
  ]);
  if (values.torch) await compareWithTorch();
  console.log(`${implementation}, 2 ranks, medians of ${plan.rounds} rounds`);
  console.log(table([["op", "bytes", "C++", "C++ MPI_I…", "wait()", "await", "wait/C++", "wait/C++ MPI_I…"], ...rows]));
}

async function compareWithTorch(): Promise<void> {
  const rows = [["all-reduce", "wait()", "torch.distributed, gloo", "times as long"]];
  await using torch = await Contender.torch();
  for (const { op, bytes, medians } of lines) {
    if (op !== "all-reduce") continue;
    const { micros } = await torch.run({ mode: "wait", op, ...repetitions(bytes), buffers: 4 });
    const [own, other] = [median(medians.wait), median(micros)];
    rows.push([showBytes(bytes), showMicros(own), showMicros(other), (other / own).toFixed(1)]);
  }
  console.log(table(rows));
}
