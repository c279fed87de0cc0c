import { readFileSync, statSync } from "node:fs";

/** The process that holds the flock(2) of a file, for messages; undefined if the system does not report it. */
export function lockHolder(path: string): string | undefined {
  try {
    const { ino } = statSync(path);
    const line = readFileSync("/proc/locks", "utf8")
      .split("\n")
      .map((each) => /\sFLOCK\s.*?\s(\d+)\s[\da-f]+:[\da-f]+:(\d+)\s/.exec(each))
      .find((match) => match !== null && Number(match[2]) === ino);
    return line?.[1] === undefined ? undefined : described(line[1]);
  } catch {
    return undefined;
  }
}

function described(pid: string): string {
  try {
    const name = readFileSync(`/proc/${pid}/comm`, "utf8").trim();
    return `process ${pid} (${name}, user ${statSync(`/proc/${pid}`).uid})`;
  } catch {
    return `process ${pid}`;
  }
}
