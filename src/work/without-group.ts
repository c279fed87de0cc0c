import type { OpType } from "../collectives/op-type.ts";
import { addCallSite, captureCallSite } from "../errors/index.ts";
import { bindWork, failureOf, OWN_RESULT, Work, type WorkOwner, warnIfUnobserved } from "./work.ts";

/** Stands in for the group of an op that has none. */
const noGroup: WorkOwner = {
  onStart() {},
  onEnd(work) {
    if (failureOf(work) !== undefined) setImmediate(warnIfUnobserved, work);
  },
  globalRankOf: (groupRank) => groupRank,
};

/** The Work of an op that was refused because there is no group; a process warning unless it is observed. */
export function refusedWithoutGroup<T>(error: unknown, opType: OpType): Work<T> {
  const work = Work.rejected<T>(error, { opType });
  const failure = failureOf(work);
  if (failure !== undefined) addCallSite(failure, captureCallSite());
  bindWork(work, noGroup, OWN_RESULT);
  return work;
}
