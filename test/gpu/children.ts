import { closeSync, openSync, readFileSync } from "node:fs";

/** How a child process ended. */
export interface Ending {
  readonly code: number | null;
  readonly timedOut: boolean;
  /** What it wrote, standard output and errors together. */
  readonly output: string;
}

/** What to run. */
export interface ChildOptions {
  readonly command: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  readonly limitMs: number;
  /** File that gets its output. */
  readonly log: string;
}

/**
 * Runs a command in a process group of its own and kills all of the group when the limit is over, and what is left of it
 * when the command has ended: a rank that hangs on a GPU must not be in the way of the next part.
 */
export async function runChild({ command, env, cwd, limitMs, log }: ChildOptions): Promise<Ending> {
  const file = openSync(log, "w");
  const child = Bun.spawn([...command], {
    env: { ...process.env, ...env },
    ...(cwd !== undefined && { cwd }),
    stdin: "ignore",
    stdout: file,
    stderr: file,
    detached: true,
  });
  closeSync(file);
  let timedOut = false;
  const limit = setTimeout(() => {
    timedOut = true;
    killGroup(child.pid);
  }, limitMs);
  await child.exited;
  clearTimeout(limit);
  killGroup(child.pid);
  return { code: child.exitCode, timedOut, output: readFileSync(log, "utf8") };
}

function killGroup(leader: number): void {
  try {
    process.kill(-leader, "SIGKILL");
  } catch {
    // Nobody is left.
  }
}

/** The last lines of a text, for a report. */
export function lastLines(text: string, count: number): string[] {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  return lines.slice(-count).map((line) => line.slice(0, 300));
}
