import { ranksText } from "../../errors/index.ts";
import { type RankStatus, seconds } from "../../status/index.ts";
import { lineOf } from "./attempt-status.ts";
import { rankExitCode } from "./exit-code.ts";
import type { RankVerdict, Verdict } from "./verdict.ts";

// A rank may be any program, so its exit status and this text are all there is to go by. Of ranks whose calls differ,
// each has an error, and a dump of its flight recorder, for which the others need some time.
const peerErrors =
  /\b(DistNetworkError|DistTimeoutError|DESYNC)\b|Connection (closed|reset) by peer|Broken pipe|Timed out waiting/;

/** A line of source code that the runtime prints above an error; it may name any error. */
const sourceExcerpt = /^\s*\d+ \|/;

/**
 * Whether the error output suggests that the rank failed because of another one: a lost connection or a time-out. The
 * rank that caused the failure may take longer to end than the ranks that noticed it.
 */
export function blamesPeer(stderrTail: readonly string[]): boolean {
  return stderrTail.map(Bun.stripANSI).some((line) => peerErrors.test(line) && !sourceExcerpt.test(line));
}

/** Ranks of this node that were still running at the end of an attempt. */
export interface StoppedRanks {
  readonly stopped: readonly number[];
  /** Those that did not end in time and were killed. */
  readonly killed: readonly number[];
}

export interface EndReport extends StoppedRanks {
  readonly verdict: Verdict;
  /** The node that reports; undefined if it is the only one. */
  readonly node: number | undefined;
  /** Folder of the ranks' log files, if there are any. */
  readonly logs: string | undefined;
  /** What ranks of other nodes that had not ended were doing, as far as these have answered, when none here was running. */
  readonly elsewhere?: readonly RankStatus[];
}

/** The line that ends the report if ranks have written their flight recorders, to this folder. */
export function tracesLine(traces: string | undefined): string {
  return traces === undefined ? "" : `what the ranks called last: c10d trace ${traces}\n`;
}

/** Why a failed attempt ended. */
export function endReport(report: EndReport): string {
  const { verdict, stopped, killed } = report;
  const several = report.node !== undefined;
  const stop = stopped.length === 0 && several ? "" : `; ${stopLine(stopped, killed)}`;
  switch (verdict.kind) {
    case "rank":
      return failureReport(verdict, report);
    case "signal":
      return `c10d run: ended by ${verdict.signal}${several ? ` on node ${verdict.node}` : ""}${stop}\n`;
    case "timeout": {
      const { elsewhere = [] } = report;
      const others =
        elsewhere.length === 0 ? "other nodes" : `${ranksText(elsewhere.map(({ rank }) => rank))} on other nodes`;
      const running = stopped.length === 0 ? others : ranksText(stopped);
      const limit = `after ${seconds(verdict.timeoutMs)} (--timeout)`;
      const lines = elsewhere.map((status) => `  on ${status.host}, ${lineOf(status, "")}\n`);
      return `\nc10d run: the job timed out: ${running} had not ended ${limit}${stop}\n${lines.join("")}`;
    }
    case "node":
      return `\nc10d run: node ${verdict.node} is lost: ${verdict.reason}${stop}\n`;
  }
}

function failureReport(verdict: RankVerdict, report: EndReport): string {
  const { exit, stderrTail } = verdict;
  const how =
    exit.signal === undefined
      ? `exit code ${exit.exitCode}`
      : `signal ${exit.signal} (exit code ${rankExitCode(exit)})`;
  const where = report.node === undefined ? "" : ` on node ${verdict.node} (${verdict.host})`;
  const lines = [
    `c10d run: rank ${exit.rank}${where} failed first: ${how}, pid ${exit.pid}, ${seconds(exit.elapsedMs)} after its start`,
  ];
  if (report.stopped.length > 0) lines.push(stopLine(report.stopped, report.killed));
  if (stderrTail.length > 0) {
    lines.push(`last lines of the stderr of rank ${exit.rank}:`, ...stderrTail.map((line) => `  ${line}`));
  } else {
    lines.push(verdict.stderrSeen ? "it wrote nothing to stderr" : "its output is above");
  }
  if (report.logs !== undefined) lines.push(`log files: ${report.logs}`);
  return `\n${lines.join("\n")}\n`;
}

/** Which ranks were stopped, and which of them had to be killed. */
function stopLine(stopped: readonly number[], killed: readonly number[]): string {
  if (stopped.length === 0) return "no rank was running";
  const kill = killed.length === 0 ? "" : `; ${ranksText(killed)} did not end in time and had to be killed`;
  return `${ranksText(stopped)} ${stopped.length === 1 ? "was" : "were"} stopped${kill}`;
}
