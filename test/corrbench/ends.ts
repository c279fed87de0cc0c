import type { Place } from "../desync/place.ts";
import type { At, End } from "./shape.ts";
import { crossed, finishes, missing, type Verdict } from "./verdict.ts";

type Of = (at: At) => readonly Verdict[];

/** Every rank says the same. */
export function everywhere(...verdicts: readonly Verdict[]): End {
  return { kind: "found", by: () => verdicts };
}

/** What ranks 0 and 1 say; a third rank makes no call. */
export function pair(zero: readonly Verdict[] | Of, one: readonly Verdict[] | Of): End {
  const by = (at: At): readonly Verdict[] => {
    const verdicts = at.rank === 0 ? zero : at.rank === 1 ? one : [finishes];
    return typeof verdicts === "function" ? verdicts(at) : verdicts;
  };
  return { kind: "found", by };
}

/** What rank 0 says, and what all others say. */
export function rootAndOthers(root: readonly Verdict[] | Of, others: readonly Verdict[] | Of): End {
  const by = (at: At): readonly Verdict[] => {
    const verdicts = at.rank === 0 ? root : others;
    return typeof verdicts === "function" ? verdicts(at) : verdicts;
  };
  return { kind: "found", by };
}

/** A rank that needs no data of the rank at fault may finish where no rank waits for another one without need. */
export function unlessSpared(...verdicts: readonly Verdict[]): Of {
  return ({ place }) => (place.waitsForNeeded === true ? [...verdicts, finishes] : verdicts);
}

/** A send that nobody receives: whether it ends is up to the backend, as in MPI. */
export const unreceived: readonly Verdict[] = [finishes, missing("send", 1)];

/** Two ranks that wait for each other. One that blocks cannot ask the other one: unless the backend knows, it names it. */
export function waitingForEachOther(op: string): Of {
  return ({ rank, mode }) => {
    const both = crossed(op, 0, 1);
    return mode === "await" ? [both] : [both, missing(op, 1 - rank)];
  };
}

/** Whether a small message is sent before its receive is posted; over gloo and fake a send waits for that. */
export function sendsAhead({ backend }: Place): boolean {
  return backend === "mpi" || backend === "ucc";
}
