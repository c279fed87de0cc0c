import { printable } from "../../errors/index.ts";
import { durationText } from "../../time/index.ts";
import type { RankTrace } from "../rank-trace.ts";
import { ranksOf } from "../text/op-text.ts";
import { checkCollectives } from "./collectives.ts";
import type { Finding } from "./finding.ts";
import { checkGroupCalls } from "./group-calls.ts";
import type { TraceGroup } from "./group-traces.ts";
import { Job } from "./job.ts";
import { checkMessages } from "./messages.ts";

/** What the dumps of a job say, taken together. */
export interface Analysis {
  readonly job: Job;
  /** What is wrong, the most likely cause first. */
  readonly findings: readonly Finding[];
  /** Ops that wait for others, not for long. */
  readonly inFlight: readonly string[];
  readonly notes: readonly string[];
  /** Ranks of the groups that left no dump. */
  readonly absent: readonly number[];
}

export interface AnalysisOptions {
  /** Uid or description of the only group to look at. */
  readonly group?: string;
}

/** Compares what the ranks of a job called. */
export function analyse(traces: readonly RankTrace[], { group: only }: AnalysisOptions = {}): Analysis {
  const job = new Job(traces);
  const isChosen = ({ uid, description }: TraceGroup) => only === undefined || uid === only || description === only;
  const chosen = job.groups.filter(({ group }) => isChosen(group));
  const all: Finding[] = [];
  const inFlight: string[] = [];
  const notes: string[] = [];
  for (const each of chosen) {
    const collectives = checkCollectives(each, job);
    const messages = checkMessages(each, job);
    all.push(...collectives.findings, ...messages.findings);
    inFlight.push(...collectives.inFlight, ...messages.inFlight);
    notes.push(...messages.notes);
  }
  const calls = checkGroupCalls(job, isChosen);
  all.push(...calls.findings);
  inFlight.push(...calls.inFlight);
  // What is wrong elsewhere explains why something does not end, such as the closing of a group that waits for its ops.
  const causes = all.filter(({ kind }) => kind !== "stuck");
  const findings = causes.length > 0 ? causes : all;
  if (causes.length > 0) inFlight.push(...all.flatMap(({ kind, text }) => (kind === "stuck" ? [text] : [])));
  const empty = job.traces.filter(({ ops, dropped, isPartial }) => ops.length + dropped === 0 && !isPartial);
  if (empty.length > 0 && findings.length === 0) {
    const ranks = ranksOf(empty.map(({ rank }) => rank));
    notes.push(`No op of ${ranks} was recorded; a group may have failed before it had one.`);
  }
  const partial = job.traces.filter(({ isPartial }) => isPartial).map(({ rank }) => rank);
  if (partial.length > 0) notes.push(`${dumpsOf(partial, "leaves", "leave")} out ops, as those of active ops do.`);
  const lost = job.traces.filter(({ dropped }) => dropped > 0).map(({ rank }) => rank);
  if (lost.length > 0) notes.push(`Older ops of ${ranksOf(lost)} were overwritten; what they were is not checked.`);
  notes.push(...staleness(job));
  const guessed = chosen.filter(({ group }) => group.isGuessed);
  if (guessed.length > 0) {
    const names = guessed.map(({ group }) => `${printable(group.uid)} (${ranksOf(group.ranks)})`).join(", ");
    notes.push(`No dump lists the members of some groups, which are taken to be the ranks that used them: ${names}.`);
  }
  return { job, findings: findings.sort(byKind), inFlight, notes, absent: job.absent() };
}

/** Dumps that are older than this, compared with the newest one, may be of another run. */
const STALE_MS = 600_000;

function staleness(job: Job): readonly string[] {
  const time = ({ rank, dumpedMs }: RankTrace): number => job.commonTime(rank, dumpedMs);
  const newest = job.traces.reduce((latest, trace) => Math.max(latest, time(trace)), 0);
  const stale = job.traces.filter((trace) => newest - time(trace) > STALE_MS);
  if (stale.length === 0) return [];
  const oldest = stale.reduce((age, trace) => Math.max(age, newest - time(trace)), 0);
  const which = dumpsOf(
    stale.map(({ rank }) => rank),
    "is",
    "are",
  );
  const question = stale.length === 1 ? "is it" : "are they";
  return [`${which} up to ${durationText(oldest)} older than the newest one: ${question} of this run?`];
}

function dumpsOf(ranks: readonly number[], verb: string, plural: string): string {
  return ranks.length === 1 ? `The dump of ${ranksOf(ranks)} ${verb}` : `The dumps of ${ranksOf(ranks)} ${plural}`;
}

const order: readonly Finding["kind"][] = ["mismatch", "missing", "absent", "message", "stuck", "failed"];

function byKind(a: Finding, b: Finding): number {
  return order.indexOf(a.kind) - order.indexOf(b.kind);
}
