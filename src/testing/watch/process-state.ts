import { readFileSync } from "node:fs";
import type { ProcessState } from "./hang.ts";

/** The current state of a process; undefined if it is not available (it needs /proc). */
export function processState(pid: number): ProcessState | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return undefined;
  }
  // The name in parentheses before the state may contain anything.
  const state = stat.slice(stat.lastIndexOf(")") + 2, stat.lastIndexOf(")") + 3);
  if (state === "T" || state === "t") return "stopped";
  return state === "R" ? "running" : "sleeping";
}
