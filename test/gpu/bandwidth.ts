import { fileURLToPath } from "node:url";
import { spawnRanks } from "../../src/testing/index.ts";
import { freePort, runProgram } from "../interop/programs.ts";
import type { TwoRanks } from "./part.ts";
import { table } from "./report.ts";
import type { TimedOp, Timing } from "./timing.ts";
import type { TimingArguments } from "./timing-rank.ts";
import { spawnWith } from "./two-ranks.ts";

/** What to measure with. */
export interface Measurement {
  readonly devices: readonly string[];
  readonly env: TwoRanks["env"];
  readonly sizes: readonly number[];
  readonly seconds: number;
  readonly limitMs: number;
}

/** Timings of this library. */
export async function timingsOfBun({ devices, env, sizes, seconds, limitMs }: Measurement): Promise<readonly Timing[]> {
  const args: TimingArguments = { devices, sizes, seconds };
  const file = fileURLToPath(new URL("timing-rank.ts", import.meta.url));
  const outcomes = await spawnRanks(devices.length, file, { args, timeout: limitMs, ...spawnWith(env) });
  for (const { rank, error, exitCode, hung, hang, stdout, stderr } of outcomes) {
    if (error === undefined && exitCode === 0) continue;
    console.log(`── rank ${rank}\n${stdout}\n${stderr}`);
    throw new Error(`rank ${rank}: ${hung ? `hung in ${hang?.text}` : (error?.message ?? stderr.slice(-400))}`);
  }
  return outcomes[0]?.value as readonly Timing[];
}

/** Timings of PyTorch on the same devices, with the same libnccl. */
export async function timingsOfTorch(python: readonly string[], measurement: Measurement): Promise<readonly Timing[]> {
  const { devices, env, sizes, seconds, limitMs } = measurement;
  const program = fileURLToPath(new URL("parts/bandwidth.py", import.meta.url));
  const port = String(freePort());
  const ends = await Promise.all(
    devices.map((device, rank) => {
      const own = Object.entries(env).map(([name, value]) => [name, value.replaceAll("{rank}", String(rank))] as const);
      const job = {
        RANK: String(rank),
        WORLD_SIZE: String(devices.length),
        MASTER_ADDR: "127.0.0.1",
        MASTER_PORT: port,
      };
      const command = [...python, program, device, String(seconds), sizes.join(",")];
      return runProgram(command, { ...Object.fromEntries(own), ...job }, limitMs);
    }),
  );
  for (const [rank, { code, stderr }] of ends.entries()) {
    if (code !== 0) throw new Error(`PyTorch's rank ${rank} ended with ${code}: ${stderr.trim().slice(-400)}`);
  }
  const line = ends[0]?.stdout.split("\n").find((each) => each.startsWith("[{"));
  if (line === undefined) throw new Error(`PyTorch's rank 0 printed no timings: ${ends[0]?.stdout.slice(-400)}`);
  return JSON.parse(line) as readonly Timing[];
}

/** nccl-tests' factor from algorithm bandwidth to bus bandwidth: bytes that cross the slowest link, per byte of size. */
export function busFactor(op: TimedOp, ranks: number): number {
  if (op === "broadcast") return 1;
  return ((op === "allReduce" ? 2 : 1) * (ranks - 1)) / ranks;
}

/** Bandwidths of a timing in GB/s, 10^9 bytes per second, as nccl-tests has them. */
export function bandwidths(
  { op, bytes, us }: Timing,
  ranks: number,
): { readonly algbw: number; readonly busbw: number } {
  const algbw = bytes / us / 1000;
  return { algbw, busbw: algbw * busFactor(op, ranks) };
}

/** The mean of the runs, by op and size. */
export function meanOf(runs: readonly (readonly Timing[])[]): Timing[] {
  const [first = []] = runs;
  return first.map(({ op, bytes }) => {
    const times = runs.flatMap((run) =>
      run.filter((each) => each.op === op && each.bytes === bytes).map(({ us }) => us),
    );
    return { op, bytes, us: times.reduce((sum, us) => sum + us, 0) / times.length };
  });
}

/** A table for people, beside PyTorch's if there is any. */
export function bandwidthTable(ours: readonly Timing[], torch: readonly Timing[], ranks: number): string {
  const heads = [
    "op",
    "bytes",
    "µs",
    "algbw GB/s",
    "busbw GB/s",
    "PyTorch µs",
    "PyTorch busbw GB/s",
    "time beside PyTorch's",
  ];
  const rows = ours.map((each) => {
    const { algbw, busbw } = bandwidths(each, ranks);
    const other = torch.find(({ op, bytes }) => op === each.op && bytes === each.bytes);
    const theirs =
      other === undefined
        ? ["", "", ""]
        : [other.us.toFixed(1), bandwidths(other, ranks).busbw.toFixed(2), `${(each.us / other.us).toFixed(2)} ×`];
    return [each.op, String(each.bytes), each.us.toFixed(1), algbw.toFixed(2), busbw.toFixed(2), ...theirs];
  });
  return table(heads, rows);
}
