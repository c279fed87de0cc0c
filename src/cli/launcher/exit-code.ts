import { constants } from "node:os";
import type { RankExit } from "./rank-process.ts";

/** Exit code that shells report for a process ended by a signal. */
export function signalExitCode(signal: NodeJS.Signals | number): number {
  return 128 + (typeof signal === "number" ? signal : (constants.signals[signal] ?? 0));
}

/** Exit code for the end of a rank. */
export function rankExitCode(exit: RankExit): number {
  return exit.signal === undefined ? (exit.exitCode ?? 1) : signalExitCode(exit.signal);
}

export function isFailure(exit: RankExit): boolean {
  return rankExitCode(exit) !== 0;
}
