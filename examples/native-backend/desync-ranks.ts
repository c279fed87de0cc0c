// Three ranks, of which the last calls something else than the others; each case in a group of its own.
import * as dist from "bun-c10d";
import type { RankBody } from "bun-c10d/testing";
import engine from "./engine/shm.ts";
import plain from "./shm.ts";

const { MAX, SUM } = dist.ReduceOp;
const floats = (n: number) => new Float32Array(n);

export const differences = {
  op: (group, odd) => (odd ? group.broadcast(floats(4), { src: 0 }) : group.allReduce(floats(4))),
  dtype: (group, odd) => group.allReduce(odd ? new Int32Array(4) : floats(4)),
  "reduce op": (group, odd) => group.allReduce(floats(4), { op: odd ? MAX : SUM }),
  root: (group, odd) => group.broadcast(floats(4), { src: odd ? 1 : 0 }),
  size: (group, odd) => group.allReduce(floats(odd ? 100_000 : 4)),
  turn: (group, odd) => {
    if (odd) group.allReduce(floats(4), { timeout: 0 }).then(undefined, () => undefined);
    return group.allReduce(floats(4));
  },
} as const satisfies Readonly<Record<string, (group: dist.ProcessGroup, odd: boolean) => dist.Work<unknown>>>;

export type Difference = keyof typeof differences;
export interface Verdict {
  readonly code: unknown;
  readonly message: string;
}

const body: RankBody<{ readonly backend: string }> = async ({ rank, worldSize, args }) => {
  for (const plugin of [plain, engine]) dist.registerBackend(plugin);
  await dist.initProcessGroup({ backend: args.backend, timeout: "20s" });
  const verdicts: Partial<Record<Difference, Verdict>> = {};
  for (const [name, call] of Object.entries(differences)) {
    const group = await dist.newGroup();
    await dist.barrier();
    try {
      await call(group as dist.ProcessGroup, rank === worldSize - 1);
    } catch (error) {
      const { code, message } = error as dist.DistError;
      verdicts[name as Difference] = { code, message };
    }
    await dist.barrier();
    await group?.close();
  }
  await dist.destroyProcessGroup();
  return verdicts;
};

export default body;
