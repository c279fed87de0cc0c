import type { Operation } from "../../collectives/index.ts";
import { UnsupportedOperationError } from "../../errors/index.ts";
import type { CallOptions, ProcessGroup } from "../../process-group/index.ts";
import type { Capabilities } from "../../registry/index.ts";
import { tensor } from "../../tensor/index.ts";
import type { Work } from "../../work/index.ts";

/** Ops that no rank can end alone, the plainest first. */
const meetingOps = ["barrier", "allReduce", "allGather"] as const satisfies readonly Operation[];

/** Starts an op that ends only when all ranks have come to it, of those that the backend claims. */
export function anyCollective(group: ProcessGroup, { ops }: Capabilities, options: CallOptions = {}): Work<unknown> {
  if (ops.barrier !== undefined) return group.barrier(options);
  const [reduced, gathered] = [ops.allReduce?.[0], ops.allGather?.[0]];
  if (reduced !== undefined) return group.allReduce(tensor([1, 0], { dtype: reduced }), options);
  if (gathered === undefined) {
    throw new UnsupportedOperationError(`the suite needs one of ${meetingOps.join(", ")} to bring ranks together`);
  }
  const part = () => tensor([1, 0], { dtype: gathered });
  return group.allGather(Array.from({ length: group.size }, part), part(), options);
}
