import type { LoggedOp, LoggedOps } from "./op-log.ts";

/** Where a rank was when its time was up. */
export interface RankHang {
  /** In a sentence, e.g. `rank 2 was killed after 10 s: in allReduce #5 on group "0" (gloo) for 9.8 s`. */
  readonly text: string;
  /** Ops in flight, the oldest first, and for how many milliseconds. */
  readonly ops: readonly (LoggedOp & { readonly forMs: number })[];
  /** Op that ended last, and how many milliseconds earlier. */
  readonly last: (LoggedOp & { readonly agoMs: number }) | undefined;
  /** State of its process, if the system reports it. */
  readonly process: ProcessState | undefined;
}

export type ProcessState = "running" | "sleeping" | "stopped";

/** Maximum number of ops that a sentence names. */
const MAX_NAMED = 3;

/** @param killedAt Milliseconds since the epoch. */
export function describeHang(
  rank: number,
  log: LoggedOps | undefined,
  killed: { readonly at: number; readonly afterMs: number; readonly process: ProcessState | undefined },
): RankHang {
  const { ops, last } = opsAt(log, killed.at);
  const text = `rank ${rank} was killed after ${seconds(killed.afterMs)}: ${where(ops, last)}${stateInWords(killed.process)}`;
  return { text, ops, last, process: killed.process };
}

/** Describes in which op a rank is. @param now Milliseconds since the epoch. */
export function whereInOps(log: LoggedOps, now: number): string {
  const { ops, last } = opsAt(log, now);
  return where(ops, last);
}

function opsAt(log: LoggedOps | undefined, now: number): Pick<RankHang, "ops" | "last"> {
  const ops = (log?.inFlight ?? []).map((each) => ({ ...each, forMs: now - each.began }));
  return { ops, last: log?.last && { ...log.last, agoMs: now - log.last.at } };
}

function where(ops: RankHang["ops"], last: RankHang["last"]): string {
  if (ops.length > 0) {
    const named = ops.slice(0, MAX_NAMED).map((each) => `in ${opInWords(each)} for ${seconds(each.forMs)}`);
    const more = ops.length - named.length;
    return named.join(", ") + (more > 0 ? `, and ${more} more` : "");
  }
  if (last === undefined) return "in no op, and none had started";
  return `in no op; the last, ${opInWords(last)}, ended ${seconds(last.agoMs)} earlier`;
}

function opInWords({ op, seq, group, backend }: LoggedOp): string {
  return `${op}${seq < 0 ? "" : ` #${seq}`} on group "${group}" (${backend})`;
}

function stateInWords(state: ProcessState | undefined): string {
  if (state === "stopped") return "; its process was stopped";
  return state === "running" ? "; its process was running" : "";
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1).replace(/\.0$/, "")} s`;
}
