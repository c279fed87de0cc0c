/**
 * What an op over NCCL costs besides NCCL: an all-reduce of 1 KB on one rank, on the NCCL emulator in its null mode, where
 * the work itself costs nothing. Shows NCCL's and CUDA's calls from C, the same op through the shim's ABI from C, and
 * `dist.allReduce()` on a CUDA tensor; either 64 ops at a time, of which the last is awaited, or each op waited for. All
 * take turns, in processes of their own.
 *
 *     bun bench/nccl.ts [--rounds 9] [--json]
 */
import { parseArgs } from "node:util";
import { median, table } from "./harness/samples.ts";
import { OWN_TREE } from "./harness/tree.ts";

const DEPTH = 64;
const BATCHES = 400;
const WAITED = 4_000;

const emulator = `${OWN_TREE}/build/release/nccl-emulator`;

/** Nanoseconds of an op in each way. */
type Times = Readonly<Record<string, number>>;

/** The part of a Bun rank, in a process of its own: prints its times. */
async function rank(): Promise<void> {
  const dist = await import("../src/index.ts");
  const { cuda } = dist;
  const store = new dist.HashStore();
  await using group = await dist.initProcessGroup({
    backend: "nccl",
    deviceId: "cuda:0",
    store,
    rank: 0,
    worldSize: 1,
  });
  using tensor = cuda.zeros("float32", 256);
  const inFlight = async () => {
    const begin = Bun.nanoseconds();
    for (let batch = 0; batch < BATCHES; batch++) {
      let last = group.allReduce(tensor);
      for (let i = 1; i < DEPTH; i++) last = group.allReduce(tensor);
      await last;
    }
    return (Bun.nanoseconds() - begin) / (BATCHES * DEPTH);
  };
  const waited = () => {
    const begin = Bun.nanoseconds();
    for (let i = 0; i < WAITED; i++) group.allReduce(tensor).wait();
    return (Bun.nanoseconds() - begin) / WAITED;
  };
  // The first round is for the compiler.
  const runs = { bun_in_flight_ns: inFlight, bun_waited_ns: waited };
  const times: Record<string, number> = {};
  for (const [name, run] of Object.entries(runs)) {
    await run();
    times[name] = Math.min(await run(), await run(), await run());
  }
  console.log(JSON.stringify(times));
}

async function timesOf(command: readonly string[]): Promise<Times> {
  const env = {
    ...process.env,
    NCCL_EMULATOR_NULL: "1",
    LD_LIBRARY_PATH: emulator,
    C10D_CUDA_LIBRARY: `${emulator}/libcuda.so.1`,
    C10D_NCCL_LIBRARY: `${emulator}/libnccl.so.2`,
  };
  const child = Bun.spawn([...command], { env, stdout: "pipe", stderr: "inherit" });
  const line = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Error(`${command.join(" ")} has failed`);
  return JSON.parse(line) as Times;
}

const ways = {
  calls_ns: "NCCL's and CUDA's calls from C",
  in_flight_ns: "the shim's ABI from C, 64 ops in flight",
  waited_ns: "the shim's ABI from C, each op waited for",
  bun_in_flight_ns: "group.allReduce(), 64 ops in flight",
  bun_waited_ns: "group.allReduce().wait()",
} as const;

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string", default: "9" },
      json: { type: "boolean", default: false },
      rank: { type: "boolean", default: false },
    },
  });
  if (values.rank) {
    await rank();
    process.exit();
  }
  const samples: Times[] = [];
  for (let round = 0; round < Number(values.rounds); round++) {
    const fromC = await timesOf([`${OWN_TREE}/build/release/bin/nccl_bench`]);
    const fromBun = await timesOf([process.execPath, import.meta.path, "--rank"]);
    samples.push({ ...fromC, ...fromBun });
  }
  const medians = Object.keys(ways).map(
    (way) => [way, median(samples.map((each) => each[way] ?? Number.NaN))] as const,
  );
  if (values.json) {
    console.log(JSON.stringify({ emulator: true, rounds: samples.length, ...Object.fromEntries(medians) }));
  } else {
    const calls = medians[0]?.[1] ?? Number.NaN;
    const rows = medians.map(([way, ns]) => [
      ways[way as keyof typeof ways],
      ns.toFixed(0),
      way === "calls_ns" ? "" : (ns - calls).toFixed(0),
    ]);
    console.log(table([["all-reduce of 1 KB on the NCCL emulator (not NVIDIA's library)", "ns", "more"], ...rows]));
  }
}
