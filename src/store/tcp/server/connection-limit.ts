import { readdirSync, readFileSync } from "node:fs";

/** The limit where the system reports none. */
const otherwise = 16_384;
/** Descriptors for the rest of the process: libraries, files, connections between ranks. */
const mostReserved = 1_024;
/** The part of the reserve that a server never uses. */
const lastReserved = 32;

/** How many connections a server may have by the process's limit of open files, which Bun raises at its start. */
export interface ConnectionLimit {
  readonly connections: number;
  /** A connection is refused if its descriptor has this number or more, whatever the lower ones are used for. */
  readonly firstReserved: number;
}

/** The limits of a server that starts now: what the limit of open files leaves, except for a reserve. */
export function connectionLimit(): ConnectionLimit {
  const limit = openFilesLimit();
  if (limit === undefined) return { connections: otherwise, firstReserved: Number.POSITIVE_INFINITY };
  const left = limit - openFiles();
  const reserved = Math.min(mostReserved, Math.floor(left / 4));
  return { connections: Math.max(left - reserved, 1), firstReserved: limit - Math.min(lastReserved, reserved) };
}

function openFilesLimit(): number | undefined {
  try {
    const [, soft] = /^Max open files\s+(\S+)/m.exec(readFileSync("/proc/self/limits", "utf8")) ?? [];
    return soft === undefined || soft === "unlimited" ? undefined : Number(soft);
  } catch {
    return undefined;
  }
}

function openFiles(): number {
  try {
    return readdirSync("/proc/self/fd").length;
  } catch {
    return mostReserved;
  }
}
