import type { RankTrace, TraceOp } from "../rank-trace.ts";
import { together } from "./together.ts";
import { inTorchTerms, isTorchGloo } from "./torch-gloo.ts";

/** A process group of the job. */
export interface TraceGroup {
  readonly uid: string;
  readonly description: string;
  /** Global ranks, ascending. */
  readonly ranks: readonly number[];
  /** Whether no dump lists its members, so that they are those whose ops it has. */
  readonly isGuessed: boolean;
}

/** What one rank did in one group. */
export interface MemberTrace {
  readonly trace: RankTrace;
  /** Collectives by their number; those that were coalesced under one number are one. */
  readonly collectives: ReadonlyMap<number, TraceOp>;
  readonly messages: readonly TraceOp[];
  /** Number of the last collective; 0 if there is none. */
  readonly last: number;
  /** Number of the oldest collective that the dump can have; Infinity if none, since all may be overwritten. */
  readonly first: number;
}

/** A group and what is known of its members, by rank; ranks without a dump are absent. */
export interface GroupTraces {
  readonly group: TraceGroup;
  readonly members: ReadonlyMap<number, MemberTrace>;
}

/** The groups of a job: the default group first, the others by uid. */
export function groupTraces(traces: readonly RankTrace[]): readonly GroupTraces[] {
  const known = knownGroups(traces);
  const guessed = guessedGroups(traces, known);
  const groups = [...known, ...guessed].sort(byUid);
  const opsOf = new Map(traces.map((trace) => [trace, Map.groupBy(trace.ops, ({ group }) => group)] as const));
  return groups.map((group) => {
    const opsIn = (trace: RankTrace): readonly TraceOp[] => opsOf.get(trace)?.get(group.uid) ?? [];
    const ranks = new Set(group.ranks);
    const own = traces.filter((trace) => ranks.has(trace.rank));
    const isMixed = own.some((trace) => isTorchGloo(trace, opsIn(trace)));
    const members = own.map((trace) => {
      const ops = opsIn(trace);
      const isOurs = isMixed && trace.writer === "bun-c10d";
      return [trace.rank, memberTrace(trace, isOurs ? inTorchTerms(trace, ops, ranks.size) : ops)] as const;
    });
    return { group, members: new Map(members) };
  });
}

function knownGroups(traces: readonly RankTrace[]): readonly TraceGroup[] {
  const groups = new Map<string, TraceGroup>();
  for (const { groups: dumped } of traces) {
    for (const { uid, description, ranks: listed } of dumped.values()) {
      if (listed.length === 0) continue;
      const ranks = [...new Set(listed)].sort((a, b) => a - b);
      const key = `${uid} ${ranks.join()}`;
      if (!groups.has(key)) groups.set(key, { uid, description, ranks, isGuessed: false });
    }
  }
  return [...groups.values()];
}

/** Groups that a rank has ops of, and that no dump says the members of. */
function guessedGroups(traces: readonly RankTrace[], known: readonly TraceGroup[]): readonly TraceGroup[] {
  const users = new Map<string, RankTrace[]>();
  for (const trace of traces) {
    for (const uid of new Set(trace.ops.map(({ group }) => group))) {
      if (known.some((group) => group.uid === uid && group.ranks.includes(trace.rank))) continue;
      users.set(uid, [...(users.get(uid) ?? []), trace]);
    }
  }
  return [...users].map(([uid, members]) => {
    const description = members[0]?.descriptions.get(uid) ?? "";
    const all = description === "default_pg" ? worldSize(traces) : 0;
    const ranks =
      all > 0 ? Array.from({ length: all }, (_, rank) => rank) : members.map(({ rank }) => rank).sort((a, b) => a - b);
    return { uid, description, ranks, isGuessed: true };
  });
}

/** At least as large as the ranks that left dumps need. */
function worldSize(traces: readonly RankTrace[]): number {
  return Math.max(...traces.map(({ rank, worldSize: known = 0 }) => Math.max(rank + 1, known)));
}

/** @param ops Undefined if they cannot be compared with those of the others. */
function memberTrace(trace: RankTrace, ops: readonly TraceOp[] | undefined): MemberTrace {
  const bySeq = new Map<number, TraceOp>();
  const messages: TraceOp[] = [];
  for (const op of ops ?? []) {
    if (op.kind === "coalesced") continue;
    if (op.message !== undefined) messages.push(op);
    else if (op.seq >= 0) bySeq.set(op.seq, together(bySeq.get(op.seq), op));
  }
  const numbers = [...bySeq.keys()];
  const oldest = numbers.reduce((least, seq) => Math.min(least, seq), Number.POSITIVE_INFINITY);
  return {
    trace,
    collectives: bySeq,
    messages,
    last: numbers.reduce((most, seq) => Math.max(most, seq), 0),
    first: trace.dropped === 0 && ops !== undefined ? 0 : oldest,
  };
}

function byUid(a: TraceGroup, b: TraceGroup): number {
  const isDefault = (group: TraceGroup): number => (group.description === "default_pg" ? 0 : 1);
  return isDefault(a) - isDefault(b) || a.uid.localeCompare(b.uid, "en", { numeric: true });
}
