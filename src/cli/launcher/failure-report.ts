import { constants } from "node:os";
import type { RankExit } from "./rank-process.ts";

/** Exit code of a process that a signal ended, as shells have it. */
export function signalExitCode(signal: NodeJS.Signals | number): number {
  return 128 + (typeof signal === "number" ? signal : constants.signals[signal]);
}

/** Exit code that stands for the end of a rank. */
export function rankExitCode(exit: RankExit): number {
  return exit.signal === undefined ? (exit.exitCode ?? 1) : signalExitCode(exit.signal);
}

export function isFailure(exit: RankExit): boolean {
  return rankExitCode(exit) !== 0;
}

const peerErrors =
  /\b(DistNetworkError|DistTimeoutError)\b|Connection (closed|reset) by peer|Broken pipe|Timed out waiting/;

/** A line of source code that the runtime prints above an error; it may name any error. */
const sourceExcerpt = /^\s*\d+ \|/;

/**
 * Whether the error output looks as if the rank failed because of another one: a lost connection or a time-out. The
 * rank that caused it may take longer to end than the ranks that noticed.
 */
export function blamesPeer(stderrTail: readonly string[]): boolean {
  return stderrTail.map(Bun.stripANSI).some((line) => peerErrors.test(line) && !sourceExcerpt.test(line));
}

export interface FailureReport {
  readonly first: RankExit;
  readonly stderrTail: readonly string[];
  /** Whether the launcher has seen the error output of the rank; else it went to the terminal directly. */
  readonly stderrSeen: boolean;
  /** Ranks that were still running and were stopped. */
  readonly stopped: readonly number[];
  /** Those of them that did not end in time and were killed. */
  readonly killed: readonly number[];
}

/** The block that ends the output of a job that failed. */
export function failureReport(report: FailureReport): string {
  const { first, stderrTail } = report;
  const how =
    first.signal === undefined
      ? `exit code ${first.exitCode}`
      : `signal ${first.signal} (exit code ${rankExitCode(first)})`;
  const lines = [
    `c10d run: rank ${first.rank} failed first: ${how}, pid ${first.pid}, ${seconds(first.elapsedMs)} after its start`,
  ];
  if (report.stopped.length > 0) lines.push(stopLine(report.stopped, report.killed));
  if (stderrTail.length > 0) {
    lines.push(`last lines of the stderr of rank ${first.rank}:`, ...stderrTail.map((line) => `  ${line}`));
  } else {
    lines.push(report.stderrSeen ? "it wrote nothing to stderr" : "its output is above");
  }
  return `\n${lines.join("\n")}\n`;
}

/** Which ranks were stopped, and which of them had to be killed. */
export function stopLine(stopped: readonly number[], killed: readonly number[]): string {
  const kill = killed.length === 0 ? "" : `; ${ranks(killed)} did not end in time and had to be killed`;
  return `${ranks(stopped)} ${stopped.length === 1 ? "was" : "were"} stopped${kill}`;
}

export function ranks(list: readonly number[]): string {
  return `${list.length === 1 ? "rank" : "ranks"} ${list.join(", ")}`;
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
