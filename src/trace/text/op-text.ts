import { printable } from "../../errors/index.ts";
import { durationText } from "../../time/index.ts";
import {
  callSiteOf,
  type GroupCall,
  hasEnded,
  type RankTrace,
  type TraceCall,
  type TraceFrame,
  type WaitingCall,
} from "../rank-trace.ts";

/** `rank 2`, or `ranks 0, 1, 4-7`. */
export function ranksOf(ranks: readonly number[]): string {
  return `${ranks.length === 1 ? "rank" : "ranks"} ${rankRanges(ranks)}`;
}

export function rankRanges(ranks: readonly number[]): string {
  const sorted = [...ranks].sort((a, b) => a - b);
  const runs: [first: number, last: number][] = [];
  for (const rank of sorted) {
    const run = runs.at(-1);
    if (run !== undefined && rank === run[1] + 1) run[1] = rank;
    else runs.push([rank, rank]);
  }
  return runs
    .map(([first, last]) =>
      first === last ? `${first}` : last === first + 1 ? `${first}, ${last}` : `${first}-${last}`,
    )
    .join(", ");
}

/** `group 0 (default_pg)`. */
export function groupText({ uid, description }: { readonly uid: string; readonly description: string }): string {
  const shown = description === "" || description === "undefined" ? "" : ` (${printable(description)})`;
  return `group ${printable(uid)}${shown}`;
}

/** `all_reduce #17`, or `send to rank 3 (tag 1)`. */
export function opText({ name, seq, message }: TraceCall): string {
  if (message === undefined) return seq < 0 ? printable(name) : `${printable(name)} #${seq}`;
  const { source, destination, tag } = message;
  const isSend = name === "send";
  const peer = isSend ? destination : source;
  const from = peer < 0 ? "any rank" : `rank ${peer}`;
  return `${name} ${isSend ? "to" : "from"} ${from}${tag === 0 ? "" : ` (tag ${tag})`}`;
}

/** `newGroup of group 1`. */
export function groupCallText({ name, group }: GroupCall): string {
  return `${printable(name)} of group ${printable(group)}`;
}

/** An error in one line. Its lines are separate statements, unless the indented ones of a list follow their head. */
export function errorText(error: string): string {
  const lines = error
    .trim()
    .split(/[\r\n]+/)
    .filter((line) => line.trim() !== "");
  let text = "";
  for (const [i, line] of lines.entries()) {
    const isHeaded = /^\s/.test(line) && !/^\s/.test(lines[i - 1] ?? " ");
    const separator = i === 0 ? "" : isHeaded || /[:,;]\s*$/.test(lines[i - 1] ?? "") ? " " : "; ";
    text += `${separator}${line.trim().replace(/[.;]$/, "")}`;
  }
  return printable(text);
}

/** File name and line, such as `train.ts:41`. */
export function siteText(site: TraceFrame): string {
  return printable(`${site.file.replace(/^.*[/\\]/, "")}:${site.line}`);
}

/** The call sites of some ops as ` (train.ts:41)`, at most two; nothing if none is known. */
export function sitesText(ops: readonly Pick<TraceCall, "frames">[]): string {
  const sites = new Set(ops.flatMap((op) => callSiteOf(op) ?? []).map(siteText));
  if (sites.size === 0) return "";
  const shown = [...sites].slice(0, 2).join(", ");
  return ` (${shown}${sites.size > 2 ? ", …" : ""})`;
}

/** How far an op is, by its rank's dump: `completed 12.4 s ago`. */
export function stateText(op: WaitingCall, trace: RankTrace): string {
  const age = durationText(trace.dumpedMs - op.createdMs);
  if (!hasEnded(op)) return `in flight for ${age}`;
  if (op.finishedMs === undefined)
    return op.state === "ended" ? `over, called ${age} ago` : `${op.state}, called ${age} ago`;
  return `${op.state} ${durationText(trace.dumpedMs - op.finishedMs)} ago`;
}

/** Sizes of tensors as `[4, 3] [5]`. */
export function sizesText(sizes: readonly (readonly number[])[]): string {
  const shown = sizes.slice(0, 16).map((each) => `[${each.join(", ")}]`);
  return `${shown.join(" ")}${sizes.length > 16 ? " …" : ""}` || "none";
}
