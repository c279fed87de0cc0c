import { readdirSync, readFileSync } from "node:fs";

/** What another thread can say about a process whose main thread does not answer; `silence` is since when. */
export function unreachableReport(silence: string): string {
  return [
    `The main thread of process ${process.pid} (Bun ${Bun.version}) has not answered ${silence}: it runs JavaScript that does not`,
    "return to the event loop, or a blocking call other than wait(). Its stack cannot be read from another thread.",
    "",
    "Native threads, with their state (R runs, S sleeps, D waits for a device) and CPU time:",
    ...nativeThreads(),
    "",
  ].join("\n");
}

/** One line for each thread of the process, the main one first. */
function nativeThreads(): string[] {
  try {
    return readdirSync("/proc/self/task")
      .map(Number)
      .sort((a, b) => a - b)
      .flatMap(threadLine);
  } catch {
    return ["  (not known on this system)"];
  }
}

/** None for a thread that has ended meanwhile. */
function threadLine(id: number): string[] {
  try {
    const stat = readFileSync(`/proc/self/task/${id}/stat`, "utf8");
    // The name is in parentheses and may contain some; fields are counted from what follows it.
    const end = stat.lastIndexOf(")");
    const fields = stat.slice(end + 2).split(" ");
    const ticks = Number(fields[11]) + Number(fields[12]);
    return [`  ${id} ${stat.slice(stat.indexOf("(") + 1, end)}: ${fields[0]}, ${(ticks / 100).toFixed(2)} s`];
  } catch {
    return [];
  }
}
