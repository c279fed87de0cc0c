import { readdirSync, readFileSync } from "node:fs";

/** Where the system does not tell. */
const otherwise = 16_384;
/** Descriptors for the rest of the process: libraries, files, connections between ranks. */
const mostReserved = 1_024;
/** Of those, what a server never takes. */
const lastReserved = 32;

/** How many connections a server may have. The limit is the process's, which Bun raises as far as it may at its start. */
export interface ConnectionRoom {
  readonly connections: number;
  /** Connections whose descriptor has this number or more are too many, whatever else has used up the others. */
  readonly firstReserved: number;
}

/** The room for a server that begins now: what the limit of open files leaves, but for a reserve. */
export function connectionRoom(): ConnectionRoom {
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
