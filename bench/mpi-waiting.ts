/**
 * The cost of an awaited op while its peer is late: the latency added to the end of the op, and the CPU time of the
 * waiting rank.
 *
 *     bun bench/mpi-waiting.ts [--implementation openmpi] [--late 0.1,1,10]
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import * as dist from "../src/index.ts";
import { median, quantile, showMicros, table } from "./harness/samples.ts";

const TIMES = 60;

const { values } = parseArgs({
  options: {
    implementation: { type: "string", default: "openmpi" },
    late: { type: "string", default: "0.1,1,10" },
    rank: { type: "boolean", default: false },
  },
});

/** Rank 0 waits in each of the ways; rank 1 is late and measures how long rank 0 takes to answer. */
async function rank(): Promise<void> {
  const group = await dist.initProcessGroup({ backend: "mpi" });
  const rows: string[][] = [["rank 1 is late by", "way", "answer after, median", "90 %", "CPU of rank 0"]];
  for (const lateMs of values.late.split(",").map(Number)) {
    for (const way of ["wait", "await"] as const) {
      const answers: number[] = [];
      const note = new Float32Array(1);
      const cpu = process.cpuUsage();
      const began = performance.now();
      for (let i = 0; i < TIMES; i++) {
        if (group.rank === 0) {
          const receiving = group.recv(note, { src: 1 });
          if (way === "wait") receiving.wait();
          else await receiving;
          group.send(note, { dst: 1 }).wait();
          continue;
        }
        Bun.sleepSync(lateMs);
        const called = Bun.nanoseconds();
        group.send(note, { dst: 0 }).wait();
        group.recv(note, { src: 0 }).wait();
        answers.push((Bun.nanoseconds() - called) / 1_000);
      }
      const used = process.cpuUsage(cpu);
      const share = (used.user + used.system) / 1_000 / (performance.now() - began);
      const shares = new Float64Array([share]);
      await dist.broadcast(shares, { src: 0 });
      const cells = [showMicros(median(answers)), showMicros(quantile(answers, 0.9))];
      if (group.rank === 1) rows.push([`${lateMs} ms`, way, ...cells, `${((shares[0] ?? 0) * 100).toFixed(0)} %`]);
      await dist.barrier();
    }
  }
  if (group.rank === 1) console.log(table(rows));
  await dist.destroyProcessGroup();
}

if (values.rank) {
  await rank();
} else {
  const free = values.implementation === "openmpi" ? ["--oversubscribe", "--bind-to", "none"] : [];
  const program = [process.execPath, fileURLToPath(import.meta.url), "--rank", "--late", values.late];
  const { exitCode } = Bun.spawnSync({
    cmd: [`mpirun.${values.implementation}`, ...free, "-n", "2", ...program],
    env: { ...process.env, NO_COLOR: "1", OMPI_ALLOW_RUN_AS_ROOT: "1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1" },
    stdio: ["ignore", "inherit", "inherit"],
  });
  process.exitCode = exitCode;
}
