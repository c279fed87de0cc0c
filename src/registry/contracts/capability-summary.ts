import { madeOf, type Operation, operations } from "../../collectives/op-table.ts";
import type { ReduceOpName } from "../../collectives/reduce-op.ts";
import { type DType, dtypeNames } from "../../tensor/index.ts";
import type { Capabilities } from "./capabilities.ts";

/** Properties of a backend besides its ops, with their names in text. */
export const features = {
  anySource: "recv from any source",
  sequenceNumbers: "sequence numbers",
  abort: "abort",
} as const satisfies { readonly [name in keyof Capabilities]?: string };

export type Feature = keyof typeof features;

/** A capability table with equal rows grouped. */
export interface CapabilitySummary {
  readonly ops: readonly { readonly ops: readonly Operation[]; readonly dtypes: readonly DType[] }[];
  readonly reduceOps: readonly { readonly dtypes: readonly DType[]; readonly reduceOps: readonly ReduceOpName[] }[];
  /** Ops that the backend lacks but the process group makes from one that it has. */
  readonly made: readonly { readonly op: Operation; readonly of: Operation }[];
  readonly missing: readonly Operation[];
  readonly features: Readonly<Record<Feature, boolean>>;
}

/** Summarizes a capability table for display. */
export function summarize(capabilities: Capabilities): CapabilitySummary {
  const { ops, reduceOps } = capabilities;
  const has = (op: Operation): boolean => ops[op] !== undefined;
  const named = operations.filter(has);
  const lacking = operations.filter((op) => !has(op));
  const reduced = dtypeNames.filter((dtype) => (reduceOps[dtype] ?? []).length > 0);
  return {
    ops: alike(named, (op) => ops[op] ?? []).map(([group, dtypes]) => ({ ops: group, dtypes })),
    reduceOps: alike(reduced, (dtype) => reduceOps[dtype] ?? []).map(([dtypes, names]) => ({
      dtypes,
      reduceOps: names,
    })),
    made: lacking.flatMap((op) => {
      const of = madeOf(op, has);
      return of === undefined ? [] : [{ op, of }];
    }),
    missing: lacking.filter((op) => madeOf(op, has) === undefined),
    features: {
      anySource: capabilities.anySource ?? false,
      sequenceNumbers: capabilities.sequenceNumbers ?? false,
      abort: capabilities.abort ?? false,
    },
  };
}

/** `every dtype`, all but a few, or their names. */
export function dtypesText(list: readonly DType[]): string {
  const absent = dtypeNames.filter((name) => !list.includes(name));
  if (absent.length === 0) return "every dtype";
  if (absent.length <= 3) return `every dtype but ${absent.join(", ")}`;
  return list.length === 0 ? "no tensors" : list.join(" ");
}

/** Groups of keys whose lists are equal, with that list; in the order of the keys. */
function alike<K, V>(keys: readonly K[], listOf: (key: K) => readonly V[]): [K[], readonly V[]][] {
  const groups = new Map<string, [K[], readonly V[]]>();
  for (const key of keys) {
    const list = listOf(key);
    const id = [...list].sort().join();
    const group = groups.get(id);
    if (group === undefined) groups.set(id, [[key], list]);
    else group[0].push(key);
  }
  return [...groups.values()];
}
