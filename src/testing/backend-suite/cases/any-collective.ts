import type { Operation } from "../../../collectives/index.ts";
import { UnsupportedOperationError } from "../../../errors/index.ts";
import type { CallOptions } from "../../../process-group/index.ts";
import type { Work } from "../../../work/index.ts";
import type { SuiteRank } from "../suite-rank.ts";

/** Ops that no rank can complete alone, the simplest first. */
const meetingOps = ["barrier", "allReduce", "allGather"] as const satisfies readonly Operation[];

/** Starts one of the ops that the backend claims, which ends only when all ranks have called it. */
export function anyCollective(it: SuiteRank, options: CallOptions = {}): Work<unknown> {
  const { group } = it;
  const { ops } = it.capabilities;
  if (ops.barrier !== undefined) return group.barrier(options);
  const [reduced, gathered] = [ops.allReduce?.[0], ops.allGather?.[0]];
  if (reduced !== undefined) return group.allReduce(it.empty(reduced, 2).tensor, options);
  if (gathered === undefined) {
    throw new UnsupportedOperationError(`the suite needs one of ${meetingOps.join(", ")} to bring ranks together`);
  }
  const part = () => it.empty(gathered, 2).tensor;
  return group.allGather(it.ranks.map(part), part(), options);
}
