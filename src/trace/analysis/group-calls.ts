import { durationText } from "../../time/index.ts";
import type { GroupCall, RankTrace } from "../rank-trace.ts";
import { errorText, groupText, ranksOf, sitesText } from "../text/op-text.ts";
import { culpritsText } from "./culprits.ts";
import type { Finding } from "./finding.ts";
import type { TraceGroup } from "./group-traces.ts";
import type { Job } from "./job.ts";
import { lastCallText } from "./last-op-text.ts";

/** For how long the making or closing of a group may go on, though no rank is missing. */
const STUCK_MS = 60_000;
/** Ranks of which the last call is told. */
const TOLD_RANKS = 4;

type Calls = ReadonlyMap<number, GroupCall>;

/** What is wrong with the making and closing of groups, and what goes on. */
export interface GroupCallFindings {
  readonly findings: readonly Finding[];
  readonly inFlight: readonly string[];
}

/** Compares which groups the ranks have made and closed. */
export function checkGroupCalls(job: Job, isChosen: (group: TraceGroup) => boolean): GroupCallFindings {
  const findings: Finding[] = [];
  const inFlight: string[] = [];
  for (const calls of callsOf(job)) {
    const waiting = new Map([...calls].filter(([, { state }]) => state !== "completed"));
    const [call] = waiting.values();
    if (call === undefined) continue;
    const group = groupOf(job, call, waiting);
    if (!isChosen(group)) continue;
    const found = call.name === "close" ? endless(job, group, waiting) : missingRanks(job, group, calls, waiting);
    if (found !== undefined) findings.push(found);
    else inFlight.push(`${groupText(group)}: ${waitText(job, waiting)}.`);
  }
  return { findings, inFlight };
}

/** The newest call of each rank by what was called for which group: what failed before may have been tried again. */
function callsOf(job: Job): Iterable<Calls> {
  const all = new Map<string, Map<number, GroupCall>>();
  for (const { rank, groupCalls = [] } of job.traces) {
    for (const call of groupCalls) {
      const key = `${call.name} ${call.group}`;
      const calls = all.get(key) ?? new Map<number, GroupCall>();
      all.set(key, calls.set(rank, call));
    }
  }
  return all.values();
}

function groupOf(job: Job, call: GroupCall, waiting: Calls): TraceGroup {
  const known = job.groups.find(({ group }) => group.uid === call.group)?.group;
  const ranks = membersOf(job, call, waiting);
  return (
    known ?? {
      uid: call.group,
      description: call.name === "initProcessGroup" ? "default_pg" : "",
      ranks,
      isGuessed: false,
    }
  );
}

/** The ranks that those who wait make the group with. */
function membersOf(job: Job, call: GroupCall, waiting: Calls): readonly number[] {
  const named = new Set([...waiting.values()].flatMap(({ ranks }) => ranks));
  // Before they have met, the ranks may know only how many they are, if that.
  const worldSize =
    call.name === "initProcessGroup" ? Math.max(0, ...job.traces.map((trace) => trace.worldSize ?? 0)) : 0;
  for (let rank = 0; rank < worldSize; rank++) named.add(rank);
  return [...named].sort((a, b) => a - b);
}

function missingRanks(job: Job, group: TraceGroup, calls: Calls, waiting: Calls): Finding | undefined {
  const [call] = waiting.values();
  if (call === undefined) return undefined;
  const others = membersOf(job, call, waiting).filter((rank) => !calls.has(rank));
  const isRecording = (trace: RankTrace | undefined) => trace?.groupCalls !== undefined;
  const overdue = others.filter((rank) => isRecording(job.trace(rank)) && job.isOverdue(rank, waiting));
  const absent = job.isLate(waiting) ? others.filter((rank) => job.trace(rank) === undefined) : [];
  const ranks = [...overdue, ...absent].sort((a, b) => a - b);
  if (ranks.length === 0) return endless(job, group, waiting);
  const verdict = `${groupText(group)}: ${culpritsText({ overdue, absent, lost: [] }, call.name)}; ${waitText(job, waiting)}.`;
  const last = overdue.slice(0, TOLD_RANKS).map((rank) => ` ${lastCallText(job, rank, group.uid)}.`);
  const kind = overdue.length > 0 ? "missing" : "absent";
  return { kind, group, seq: undefined, ranks, text: `${verdict}${last.join("")}` };
}

/** A call that failed, or does not end, though no rank is known to be missing. */
function endless(job: Job, group: TraceGroup, waiting: Calls): Finding | undefined {
  const failed = [...waiting].filter(([, { state }]) => state === "failed").map(([rank]) => rank);
  const text = `${groupText(group)}: ${waitText(job, waiting)}.`;
  if (failed.length > 0) return { kind: "failed", group, seq: undefined, ranks: failed, text };
  const isStuck = [...waiting].some(
    ([rank, call]) =>
      job.trace(rank)?.isFailure === true || job.waited(rank, call) >= Math.min(STUCK_MS, call.timeoutMs),
  );
  return isStuck ? { kind: "stuck", group, seq: undefined, ranks: [...waiting.keys()], text } : undefined;
}

/** `ranks 0, 1 have waited in newGroup for 12.3 s (train.ts:41)`, and on which ranks it failed. */
function waitText(job: Job, waiting: Calls): string {
  const pending = [...waiting].filter(([, { state }]) => state !== "failed");
  const failed = [...waiting].filter(([, { state }]) => state === "failed");
  const parts: string[] = [];
  const [first] = waiting.values();
  const name = first?.name ?? "";
  const longest = (calls: readonly (readonly [number, GroupCall])[]) =>
    durationText(Math.max(...calls.map(([rank, call]) => job.waited(rank, call))));
  const where = (calls: readonly (readonly [number, GroupCall])[]) =>
    `${ranksOf(calls.map(([rank]) => rank))}${sitesText(calls.map(([, call]) => call))}`;
  if (pending.length > 0) {
    const has = pending.length === 1 ? "has" : "have";
    const ranks = ranksOf(pending.map(([rank]) => rank));
    const what = name === "close" ? "been closing it" : `waited in ${name}`;
    parts.push(`${ranks} ${has} ${what} for ${longest(pending)}${sitesText(pending.map(([, call]) => call))}`);
  }
  if (failed.length > 0) {
    const reason = failed.find(([, { error }]) => error !== undefined)?.[1].error;
    const why = reason === undefined ? "" : `: ${errorText(reason)}`;
    parts.push(`${name} failed after ${longest(failed)} on ${where(failed)}${why}`);
  }
  return parts.join("; ");
}
