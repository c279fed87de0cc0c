import { printable } from "../../errors/index.ts";
import type { Analysis } from "../analysis/analysis.ts";
import type { Job } from "../analysis/job.ts";
import { callSiteOf, type RankTrace, type TraceOp } from "../rank-trace.ts";
import { groupCallText, groupText, opText, ranksOf, siteText, stateText } from "../text/op-text.ts";
import { paragraph } from "../text/paragraph.ts";
import { twoColumns } from "./two-columns.ts";

const WIDTH = 80;
/** Ranks whose last op is listed, before those with findings only are. */
const MAX_LISTED = 64;

export interface ReportOptions {
  /** List this many ops of each rank, the newest ones. */
  readonly last?: number;
  /** Whether there were files that could not be read. */
  readonly isIncomplete?: boolean;
}

/** The analysis for a terminal of 80 columns: the verdict first. */
export function report(analysis: Analysis, { last = 0, isIncomplete = false }: ReportOptions = {}): string {
  const { findings, inFlight, notes, absent, job } = analysis;
  const parts: string[] = findings.map(({ text }) => paragraph(text, WIDTH));
  for (const { sides = [], differences = [], group, seq } of findings) {
    const [left, right] = sides;
    if (left === undefined || right === undefined) continue;
    parts.push(`${paragraph(`${groupText(group)}, #${seq}:`, WIDTH)}\n${twoColumns(left, right, differences)}`);
  }
  if (absent.length > 0) parts.push(paragraph(`No dump of ${ranksOf(absent)}.`, WIDTH));
  if (findings.length === 0) parts.unshift(agreement(analysis, isIncomplete));
  if (inFlight.length > 0) parts.push(inFlight.map((text) => paragraph(text, WIDTH, "  ")).join("\n"));
  parts.push(lastOps(analysis));
  if (last > 0) parts.push(...job.traces.map((trace) => newestOps(trace, last, job)));
  if (notes.length > 0) parts.push(notes.map((text) => paragraph(text, WIDTH, "  ")).join("\n"));
  return parts.filter((part) => part !== "").join("\n\n");
}

function agreement({ job, absent, inFlight }: Analysis, isIncomplete: boolean): string {
  const ops = job.traces.reduce((sum, trace) => sum + trace.ops.length, 0);
  const what = `${job.traces.length} ${job.traces.length === 1 ? "dump" : "dumps"} with ${ops} ${ops === 1 ? "op" : "ops"}`;
  if (ops === 0) return `There is nothing to compare: ${what}.`;
  const isKnown = job.groups.every(({ group }) => !group.isGuessed);
  if (absent.length > 0 || isIncomplete || !isKnown) return `The dumps that can be read agree: ${what}.`;
  return `All ranks agree: ${what}${inFlight.length > 0 ? ", some in flight" : ""}.`;
}

function lastOps({ job, findings }: Analysis): string {
  const named = new Set(findings.flatMap(({ ranks }) => ranks));
  const all = job.traces.length <= MAX_LISTED ? job.traces : job.traces.filter(({ rank }) => named.has(rank));
  const listed = all.slice(0, MAX_LISTED);
  if (listed.length === 0) return "";
  const rows = listed.map((trace) => {
    const call = job.lastGroupCall(trace.rank);
    if (call !== undefined) {
      return [`rank ${trace.rank}`, groupCallText(call), stateText(call, trace), callSite(call)] as const;
    }
    const op = job.lastOp(trace.rank);
    if (op === undefined) return [`rank ${trace.rank}`, "no op", "", ""] as const;
    return [`rank ${trace.rank}`, ofGroup(op, job), stateText(op, trace), callSite(op)] as const;
  });
  const left = job.traces.length - listed.length;
  return `Last op of each rank:\n${table(rows)}${left > 0 ? `\n  … and ${left} more ranks` : ""}`;
}

function newestOps(trace: RankTrace, count: number, job: Job): string {
  const rows = trace.ops.slice(-count).map((op) => [ofGroup(op, job), stateText(op, trace), callSite(op)] as const);
  const title = `Rank ${trace.rank}, newest last (${printable(trace.file.replace(/^.*[/\\]/, ""))}):`;
  return `${title}\n${rows.length === 0 ? "  no op" : table(rows)}`;
}

/** The default group, the first one, is not named. */
function ofGroup(op: TraceOp, { groups }: Job): string {
  return op.group === groups[0]?.group.uid ? opText(op) : `${opText(op)} of group ${printable(op.group)}`;
}

function callSite(op: Pick<TraceOp, "frames">): string {
  const site = callSiteOf(op);
  return site === undefined ? "" : siteText(site);
}

/** Columns as wide as they need be. Of a row that is too long, the last cell, the call site, has a line of its own. */
function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .flatMap((row) => {
      const cells = row.map((cell, column) => cell.padEnd(widths[column] ?? 0));
      const line = `  ${cells.join("  ")}`.trimEnd();
      if (line.length <= WIDTH) return [line];
      const site = row.at(-1) ?? "";
      const own = paragraph(site, WIDTH - 4)
        .split("\n")
        .map((part) => `    ${part}`);
      return [cut(`  ${cells.slice(0, -1).join("  ")}`.trimEnd()), ...(site === "" ? [] : own)];
    })
    .join("\n");
}

function cut(line: string): string {
  return line.length > WIDTH ? `${line.slice(0, WIDTH - 1)}…` : line;
}
