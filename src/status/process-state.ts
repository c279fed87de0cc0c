import { readFileSync, readlinkSync } from "node:fs";

/** What a process is doing, as the system reports it; `gone` if it has ended. */
export type ProcessState = "running" | "sleeping" | "stopped" | "gone";

/** The current state of a process; undefined if it is not available (it needs /proc). */
export function processState(pid: number, startedAt?: number): ProcessState | undefined {
  const found = statOf(pid);
  if (found === undefined) return ownStat() === undefined ? undefined : "gone";
  // Another process has got the number since, or the process has ended and its parent has not asked for its exit code.
  if ((startedAt !== undefined && found.startedAt !== startedAt) || "ZXx".includes(found.state)) return "gone";
  if (found.state === "T" || found.state === "t") return "stopped";
  return found.state === "R" ? "running" : "sleeping";
}

/** When a process started, in ticks since the start of the system; 0 if it is not known. */
export function processStart(pid: number): number {
  return statOf(pid)?.startedAt ?? 0;
}

/** Number of this thread in its process. The module takes 3 ms to load, which only a rank of a group needs to spend. */
export function ownThread(): number {
  return process.getBuiltinModule("node:worker_threads").threadId;
}

/** Processes of two namespaces have numbers that mean nothing to each other; empty if it is not known. */
export function pidNamespace(): string {
  try {
    return readlinkSync("/proc/self/ns/pid");
  } catch {
    return "";
  }
}

const ownStat = (): ProcessStat | undefined => statOf(process.pid);

/** The nearest process above this one that runs a program of this name; undefined if there is none. */
export function ancestorNamed(name: string): { readonly pid: number; readonly startedAt: number } | undefined {
  for (let pid = process.ppid, found = statOf(pid); found !== undefined; pid = found.parent, found = statOf(pid)) {
    if (found.name === name) return { pid, startedAt: found.startedAt };
  }
  return undefined;
}

interface ProcessStat {
  /** Of its program, cut off after 15 bytes. */
  readonly name: string;
  readonly parent: number;
  readonly state: string;
  readonly startedAt: number;
}

function statOf(pid: number): ProcessStat | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name in parentheses before the state may contain anything.
    const end = text.lastIndexOf(")");
    const fields = text.slice(end + 2).split(" ");
    const name = text.slice(text.indexOf("(") + 1, end);
    return { name, parent: Number(fields[1] ?? 0), state: fields[0] ?? "", startedAt: Number(fields[19] ?? 0) };
  } catch {
    return undefined;
  }
}
