/**
 * A rank of bench/mpi.ts: Bun and C++ take turns, on the same communicator, in the same process. Rank 0 prints JSON.
 */
import { dlopen } from "bun:ffi";
import * as dist from "../../src/index.ts";
import { median } from "../harness/samples.ts";

interface Plan {
  readonly library: string;
  readonly ops: readonly MpiOp[];
  readonly sizes: readonly number[];
  readonly rounds: number;
}

type MpiOp = "all-reduce" | "broadcast" | "all-to-all";

const opCodes: Readonly<Record<MpiOp, number>> = { "all-reduce": 0, broadcast: 1, "all-to-all": 2 };
const plan = JSON.parse(process.argv[2] ?? "{}") as Plan;
const group = await dist.initProcessGroup({ backend: "mpi" });
const { symbols } = dlopen(plan.library, {
  mpi_bench: { args: ["i32", "i32", "ptr", "ptr", "i32", "i32", "ptr"], returns: "void" },
});

function iterationsOf(bytes: number): number {
  if (bytes <= 2 ** 13) return 400;
  if (bytes <= 2 ** 16) return 100;
  return bytes <= 2 ** 20 ? 30 : 6;
}

for (const op of plan.ops) {
  for (const bytes of plan.sizes) {
    const count = Math.max(op === "all-to-all" ? group.size : 1, bytes / 4);
    const to = new Float32Array(new ArrayBuffer(4 * count)).fill(1e-30);
    const from = new Float32Array(new ArrayBuffer(4 * count)).fill(1);
    const iterations = iterationsOf(bytes);
    const micros = new Float64Array(new ArrayBuffer(8 * iterations));
    const start = () => {
      if (op === "all-reduce") return group.allReduce(to);
      return op === "broadcast" ? group.broadcast(to, { src: 0 }) : group.allToAllSingle(to, from);
    };
    const native = (blocking: number) => () => {
      symbols.mpi_bench(opCodes[op], blocking, to, from, count, iterations, micros);
    };
    const contenders: Readonly<Record<string, () => void | Promise<void>>> = {
      blocking: native(1),
      nonblocking: native(0),
      wait: () => {
        for (let i = 0; i < iterations; i++) {
          const began = Bun.nanoseconds();
          start().wait();
          micros[i] = (Bun.nanoseconds() - began) / 1_000;
        }
      },
      await: async () => {
        for (let i = 0; i < iterations; i++) {
          const began = Bun.nanoseconds();
          await start();
          micros[i] = (Bun.nanoseconds() - began) / 1_000;
        }
      },
    };
    const medians: Record<string, number[]> = {};
    for (let round = -1; round < plan.rounds; round++) {
      for (const [name, run] of Object.entries(contenders)) {
        group.barrier().wait();
        // Sums would overflow a float, and then take longer.
        to.fill(1e-30);
        await run();
        // The first round warms up.
        if (round < 0) continue;
        medians[name] = [...(medians[name] ?? []), median([...micros])];
      }
    }
    if (group.rank === 0) console.log(JSON.stringify({ op, bytes, medians }));
  }
}
await dist.destroyProcessGroup();
