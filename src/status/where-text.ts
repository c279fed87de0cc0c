import type { ProcessState } from "./process-state.ts";
import type { OpStatus, RankStatus } from "./rank-status.ts";

/** What a sentence says of an op. */
export type NamedOp = Pick<OpStatus, "op" | "seq" | "group" | "backend"> &
  Partial<Pick<OpStatus, "peer" | "hasFailed" | "callSite">>;

/** How long something has gone on, in milliseconds. */
interface Span {
  readonly forMs: number;
  /** Whether it has ended meanwhile, nobody knows when. */
  readonly isEndUnknown?: boolean;
}

/** Where a rank is. Times are in milliseconds. */
export interface Whereabouts {
  /** Ops in flight, the oldest first. */
  readonly ops: readonly (NamedOp & Span)[];
  /** Number of ops in flight, if that is more. */
  readonly pending?: number;
  readonly last: (NamedOp & { readonly agoMs: number }) | undefined;
}

/** Maximum number of ops that a sentence names. */
const MAX_NAMED = 3;

/** In which op a rank is, or which was its last: `in allReduce #5 on group "0" (gloo) for 9.8 s, called at train.ts:8`. */
export function whereText({ ops, pending = ops.length, last }: Whereabouts, past: "ago" | "earlier"): string {
  if (ops.length > 0) {
    const named = ops.slice(0, MAX_NAMED).map((each) => `in ${opText(each)}${spanText(each)}${site(each)}`);
    const more = Math.max(pending, ops.length) - named.length;
    return named.join(", ") + (more > 0 ? `, and ${more} more` : "");
  }
  if (pending > 0) return `in ${pending} ops`;
  if (last === undefined) return "in no op, and none had started";
  return `in no op; the last, ${opText(last)}, ${last.hasFailed ? "failed" : "ended"} ${seconds(last.agoMs)} ${past}${site(last)}`;
}

/** The same for a rank with a status record. */
export function statusText(status: RankStatus): string {
  const { at, process, exitedAt, exitCode } = status;
  const where = standingText(status);
  if (exitedAt === undefined) return where + stateText(process, "is");
  const code = exitCode === undefined ? "" : ` with code ${exitCode},`;
  return `${where}; its process exited${code} ${seconds(at - exitedAt)} ago`;
}

/** {@link statusText} without what has become of the process: `when it exited, in allReduce #3 on group "0" for 2 s`. */
export function standingText(status: RankStatus): string {
  const { at, inFlight, pending, last, making, closing, process, closedAt, exitedAt } = status;
  if (status.openedAt === 0) return "it had not called initProcessGroup";
  if (closedAt !== undefined) return closedText(status, closedAt);
  // What a rank was in when its process ended has not gone on since.
  const until = exitedAt ?? at;
  const isEndUnknown = exitedAt === undefined && process === "gone";
  const span = (began: number) => ({ forMs: until - began, isEndUnknown });
  const ops = inFlight.map((each) => ({ ...each, ...span(each.began) }));
  const isIn = ops.length > 0 || pending > 0 || making !== undefined || closing !== undefined;
  const before = last && { ...last, agoMs: at - (last.ended ?? at) };
  const where = openText(status, { ops, pending, last: before }, span);
  const failed = isIn && before?.hasFailed === true && ops.length > 0 ? `; before, ${opText(before)} failed` : "";
  return `${isIn && exitedAt !== undefined ? "when it exited, " : ""}${where}${failed}`;
}

/**
 * Where a rank is that may be making or closing a group: `in newGroup for 3 s, called at train.ts:8; the last op, …`,
 * `closing group "0" for 3 s; the last op, …`.
 */
function openText({ making, closing }: RankStatus, now: Whereabouts, span: (began: number) => Span): string {
  const parts: string[] = [];
  if (making !== undefined) parts.push(`in ${making.maker}${spanText(span(making.began))}${site(making)}`);
  if (closing !== undefined) parts.push(`closing ${groupText(closing.group)}${spanText(span(closing.began))}`);
  if (parts.length === 0) return whereText(now, "ago");
  const text = parts.join(", and ");
  if (now.ops.length > 0) return `${text}, and ${whereText(now, "ago")}`;
  const { last } = now;
  if (last === undefined) return text;
  return `${text}; the last op, ${opText(last)}, ${last.hasFailed ? "failed" : "ended"} ${seconds(last.agoMs)} ago`;
}

/** `closed its groups 1.2 s ago; the last op, allReduce #10 on group "0" (gloo), ended 1.3 s ago`. */
function closedText({ at, groups, last, lastFailed }: RankStatus, closedAt: number): string {
  const ago = (op: OpStatus) => `${op.hasFailed ? "failed" : "ended"} ${seconds(at - (op.ended ?? at))} ago${site(op)}`;
  if (groups.length === 0) return `its initProcessGroup failed ${seconds(at - closedAt)} ago`;
  const closed = `closed its groups ${seconds(at - closedAt)} ago`;
  if (last === undefined) return `${closed}; it had called no op`;
  const failed = last.hasFailed || lastFailed === undefined ? "" : `; before, ${opText(lastFailed)} ${ago(lastFailed)}`;
  return `${closed}; the last op, ${opText(last)}, ${ago(last)}${failed}`;
}

/** What the state of a process adds to a sentence. */
export function stateText(state: ProcessState | undefined, verb: "is" | "was"): string {
  if (state === "gone") return "; its process has ended";
  if (state === "stopped") return `; its process ${verb} stopped`;
  return state === "running" ? `; its process ${verb} running` : "";
}

/** `allReduce #5 on group "0" (gloo)`. */
export function opText({ op, seq, group, backend, peer = -1 }: NamedOp): string {
  const other = peer < 0 ? "" : ` ${op.startsWith("send") ? "to" : "from"} rank ${peer}`;
  const place = group === undefined ? "" : ` on group "${group}"${backend === undefined ? "" : ` (${backend})`}`;
  return `${op}${seq < 0 ? "" : ` #${seq}`}${other}${place}`;
}

function spanText({ forMs, isEndUnknown = false }: Span): string {
  return isEndUnknown ? `, begun ${seconds(forMs)} ago` : ` for ${seconds(forMs)}`;
}

function groupText(group: string | undefined): string {
  return group === undefined ? "a group" : `group "${group}"`;
}

export function seconds(ms: number): string {
  return `${(Math.max(0, ms) / 1_000).toFixed(1).replace(/\.0$/, "")} s`;
}

function site({ callSite }: Pick<NamedOp, "callSite">): string {
  return callSite === undefined ? "" : `, called at ${callSite}`;
}
