import type { OpView } from "./snapshot.ts";

/** Kinds of ops that look the same in the timeline. */
export type OpKind = "reduce" | "gather" | "scatter" | "exchange" | "barrier" | "message" | "group";

export type Pattern = "plain" | "rising" | "falling" | "crossed" | "upright" | "level";

export interface KindLook {
  readonly letter: string;
  readonly name: string;
  /** Tells it from others where colours do not. */
  readonly pattern: Pattern;
}

export const kindLooks: Readonly<Record<OpKind, KindLook>> = {
  reduce: { letter: "R", name: "reduce", pattern: "plain" },
  gather: { letter: "G", name: "gather", pattern: "rising" },
  scatter: { letter: "B", name: "broadcast, scatter", pattern: "falling" },
  exchange: { letter: "A", name: "all-to-all", pattern: "crossed" },
  barrier: { letter: "|", name: "barrier", pattern: "upright" },
  message: { letter: "M", name: "message", pattern: "level" },
  group: { letter: "+", name: "make or close a group", pattern: "plain" },
};

/** Beginnings of names, of which the first that fits counts. */
const beginnings: readonly (readonly [string, OpKind])[] = [
  ["send", "message"],
  ["recv", "message"],
  ["allGather", "gather"],
  ["gather", "gather"],
  ["allToAll", "exchange"],
  ["broadcast", "scatter"],
  ["scatter", "scatter"],
  ["barrier", "barrier"],
  ["monitoredBarrier", "barrier"],
  ["initProcessGroup", "group"],
  ["newGroup", "group"],
  ["splitGroup", "group"],
  ["close", "group"],
];

export function kindOf(op: string): OpKind {
  return beginnings.find(([beginning]) => op.startsWith(beginning))?.[1] ?? "reduce";
}

/** What a bar may say, the longest first: a failed op keeps the sign of its kind. */
export function labelsOf(op: Pick<OpView, "op" | "text" | "hasFailed">): readonly string[] {
  const { letter } = kindLooks[kindOf(op.op)];
  const sign = op.hasFailed ? `×${letter}` : letter;
  return [`${sign} ${op.text.replace(/ on group .*/, "")}`, `${sign} ${op.op}`, sign, sign.slice(0, 1)];
}
