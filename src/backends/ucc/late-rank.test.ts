import { expect, setDefaultTimeout, test } from "bun:test";
import { type SpawnOptions, spawnRanks } from "../../testing/index.ts";
import { allWell } from "../fixtures/all-well.ts";
import { describeUcc, spawn } from "./fixtures/availability.ts";
import type { LateRankEnd, LateRankOrder } from "./fixtures/late-rank.ts";

setDefaultTimeout(100_000);

const WORLD_SIZE = 4;
const ops = ["gather", "scatter", "reduce"] as const;
const modes = ["await", "wait"] as const;

/** UCC reports an op as complete on a rank before UCX has sent the last part of its data. */
const slowly = { UCX_TLS: "tcp,self", UCX_RNDV_THRESH: "inf", UCX_TCP_SNDBUF: "8k", UCX_TCP_RCVBUF: "8k" };
const SLOW_ELEMENTS = 20_000;

async function problemsOf(orders: readonly LateRankOrder[], env?: SpawnOptions["env"]): Promise<string[]> {
  const file = new URL("./fixtures/late-rank.ts", import.meta.url);
  const options: SpawnOptions = { ...spawn, ...(env && { env }), args: orders, timeout: "80s" };
  const all = allWell<LateRankEnd[]>(await spawnRanks(WORLD_SIZE, file, options));
  return all.flatMap((ends, rank) =>
    ends
      .filter(({ problem, next }) => problem !== undefined || next !== "DESYNC")
      .map(({ order, problem, next }) => `${JSON.stringify(order)}, rank ${rank}: ${problem}, then ${next}`),
  );
}

describeUcc("ucc, a rank that is late in a collective right before calls that differ", () => {
  test("that collective succeeds on all ranks, whichever is late and whichever call differs", async () => {
    const orders: LateRankOrder[] = [];
    for (const op of ops) {
      for (let late = 0; late < WORLD_SIZE; late++) {
        for (const elements of [1, 1 << 18]) {
          const mode = modes[orders.length % modes.length] ?? "await";
          orders.push({ op, mode, elements, late, odd: (late + orders.length) % WORLD_SIZE });
        }
      }
    }
    expect(await problemsOf(orders)).toEqual([]);
  });

  test("even if the data of the others is still in flight when they have completed it", async () => {
    const orders = ops.flatMap((op) =>
      modes.map((mode): LateRankOrder => {
        return { op, mode, elements: SLOW_ELEMENTS, late: op === "scatter" ? WORLD_SIZE - 1 : 0, odd: 2 };
      }),
    );
    // What is left to send differs from time to time.
    expect(await problemsOf([...orders, ...orders, ...orders], slowly)).toEqual([]);
  });
});
