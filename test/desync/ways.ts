import {
  allGather,
  allGatherIntoTensor,
  allReduce,
  allReduceOfList,
  allToAll,
  allToAllSingle,
  barrier,
  broadcast,
  type Call,
  gather,
  monitoredBarrier,
  reduce,
  reduceScatter,
  reduceScatterTensor,
  scatter,
} from "./calls.ts";

export const ways = [
  "other op",
  "shape",
  "dtype",
  "root",
  "order",
  "reduce op",
  "splits",
  "missing call",
  "extra call",
  "early exit",
  "other group",
  "refused on one rank",
] as const;

/** In what one rank differs from the others. */
export type Way = (typeof ways)[number];

/** What a rank does: a call, one in another group of the same ranks, one or a batch that it refuses, or its end. */
export type Step =
  | { readonly kind: "call" | "elsewhere" | "refused" | "refused in a batch"; readonly call: Call }
  | { readonly kind: "exit" | "close" };

/** One case of a way. */
export interface Case {
  readonly way: Way;
  readonly usual: readonly Step[];
  /** What the odd rank does. */
  readonly odd: readonly Step[];
  /**
   * How it ends: two calls are compared; or nothing happens until the time-out, and the odd rank or the others are
   * missing; or the odd rank is seen to leave.
   */
  readonly end: "desync" | "odd missing" | "others missing" | "odd lost";
}

const does = (...calls: readonly Call[]): readonly Step[] => calls.map((call) => ({ kind: "call", call }));
const more = (n: number): number => n + 1;

/** Two calls that differ. */
function differ(way: Way, usual: Call, odd: Call): Case {
  return { way, usual: does(usual), odd: does(odd), end: "desync" };
}

export const cases = {
  "all-reduce, broadcast": differ("other op", allReduce(), broadcast()),
  "all-reduce, barrier": differ("other op", allReduce(), barrier),
  "broadcast, reduce": differ("other op", broadcast(), reduce()),
  "all-gather, gather": differ("other op", allGather(), gather()),
  "reduce-scatter, scatter": differ("other op", reduceScatter(), scatter()),
  "barrier, monitored barrier": differ("other op", barrier, monitoredBarrier),
  "all-reduce, monitored barrier": differ("other op", allReduce(), monitoredBarrier),
  "all-reduce": differ("shape", allReduce(), allReduce({ elements: more })),
  "all-reduce of nothing": differ("shape", allReduce(), allReduce({ elements: () => 0 })),
  "all-reduce, much larger": differ("shape", allReduce(), allReduce({ elements: () => 300_000 })),
  "all-reduce of a list": differ(
    "shape",
    allReduceOfList((n) => [n + 1, n]),
    allReduceOfList((n) => [n, n + 1]),
  ),
  "broadcast of another size": differ("shape", broadcast(), broadcast({ elements: more })),
  "reduce of another size": differ("shape", reduce(), reduce({ elements: more })),
  "all-gather of another size": differ("shape", allGather(), allGather({ elements: more })),
  "gather of another size": differ("shape", gather(), gather({ elements: more })),
  "scatter of another size": differ("shape", scatter(), scatter({ elements: more })),
  "reduce-scatter of another size": differ("shape", reduceScatter(), reduceScatter({ elements: more })),
  "reduce-scatter of one tensor": differ("shape", reduceScatterTensor(), reduceScatterTensor({ elements: more })),
  "all-reduce of int32": differ("dtype", allReduce(), allReduce({ dtype: "int32" })),
  "broadcast of int32": differ("dtype", broadcast(), broadcast({ dtype: "int32" })),
  "all-gather of int32": differ("dtype", allGatherIntoTensor(), allGatherIntoTensor({ dtype: "int32" })),
  "all-to-all of int32": differ("dtype", allToAll(), allToAll({ dtype: "int32" })),
  "broadcast from another root": differ("root", broadcast(), broadcast({ root: 1 })),
  "reduce to another root": differ("root", reduce(), reduce({ root: 1 })),
  "gather to another root": differ("root", gather(), gather({ root: 1 })),
  "scatter from another root": differ("root", scatter(), scatter({ root: 1 })),
  "all-reduce and all-gather": {
    way: "order",
    usual: does(allReduce(), allGatherIntoTensor()),
    odd: does(allGatherIntoTensor(), allReduce()),
    end: "desync",
  },
  "broadcasts from two roots": {
    way: "order",
    usual: does(broadcast(), broadcast({ root: 1 })),
    odd: does(broadcast({ root: 1 }), broadcast()),
    end: "desync",
  },
  "all-reduce by MAX": differ("reduce op", allReduce(), allReduce({ op: "MAX" })),
  "reduce by MIN": differ("reduce op", reduce(), reduce({ op: "MIN" })),
  "reduce-scatter by MAX": differ("reduce op", reduceScatter(), reduceScatter({ op: "MAX" })),
  "all-to-all, all parts": differ("splits", allToAll(), allToAll({ elements: more })),
  "all-to-all of one tensor, all parts": differ("splits", allToAllSingle(), allToAllSingle({ elements: more })),
  "all-to-all of one tensor, one part": differ("splits", allToAllSingle(), allToAllSingle({}, 1)),
  "and goes on": {
    way: "missing call",
    usual: does(allReduce(), allGatherIntoTensor()),
    odd: does(allGatherIntoTensor()),
    end: "desync",
  },
  "and stays away": { way: "missing call", usual: does(allReduce()), odd: [], end: "odd missing" },
  "a barrier, and stays away": { way: "missing call", usual: does(barrier), odd: [], end: "odd missing" },
  "before another": { way: "extra call", usual: does(allReduce()), odd: does(broadcast(), allReduce()), end: "desync" },
  "at the end": { way: "extra call", usual: [], odd: does(allReduce()), end: "others missing" },
  "of the process": { way: "early exit", usual: does(allReduce()), odd: [{ kind: "exit" }], end: "odd lost" },
  "from the group": { way: "early exit", usual: does(allReduce()), odd: [{ kind: "close" }], end: "odd lost" },
  "of the same ranks": {
    way: "other group",
    usual: does(allReduce()),
    odd: [{ kind: "elsewhere", call: allReduce() }],
    end: "odd missing",
  },
  "then another call": {
    way: "refused on one rank",
    usual: does(broadcast(), allReduce()),
    odd: [{ kind: "refused", call: broadcast() }, ...does(allReduce())],
    end: "desync",
  },
  "then the same call": {
    way: "refused on one rank",
    usual: does(allReduce()),
    odd: [{ kind: "refused", call: allReduce() }, ...does(allReduce())],
    end: "desync",
  },
  "a call and a batch": {
    way: "refused on one rank",
    usual: does(allReduce()),
    odd: [{ kind: "refused", call: barrier }, { kind: "refused in a batch", call: allReduce() }, ...does(allReduce())],
    end: "desync",
  },
} as const satisfies Readonly<Record<string, Case>>;

export type CaseName = keyof typeof cases;

export const caseNames = Object.keys(cases) as readonly CaseName[];

export function caseOf(name: CaseName): Case {
  return cases[name];
}
