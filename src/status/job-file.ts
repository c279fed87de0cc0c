import { join } from "node:path";
import { printable } from "../errors/index.ts";
import { readOwnText, replaceOwnFile } from "../files/index.ts";

/** Name of the file in the folder of a job that its launcher has started. */
export const JOB_FILE = "job.json";
/** More than the system lets a command have. */
const MAX_BYTES = 16 * 2 ** 20;
/** What is said of its ranks takes memory for each. */
const MAX_RANKS = 1 << 16;
const MAX_ARGUMENTS = 1_000;

/** What `c10d run` says of its job in the folder of its records. */
export interface LaunchedJobInfo {
  readonly pid: number;
  readonly processStart: number;
  readonly runId: string;
  /** How often the job has been restarted. */
  readonly attempt: number;
  readonly node: number;
  readonly nnodes: number;
  /** Number of ranks on this node. */
  readonly ranks: number;
  readonly command: readonly string[];
  readonly startedAt: number;
}

/** @throws the system's error. */
export function writeJobFile(folder: string, info: LaunchedJobInfo): void {
  replaceOwnFile(join(folder, JOB_FILE), JSON.stringify(info));
}

/** Undefined if no launcher has started the job, or the file is none of {@link writeJobFile}. */
export function readJobFile(folder: string): LaunchedJobInfo | undefined {
  try {
    return parseJob(JSON.parse(readOwnText(join(folder, JOB_FILE), MAX_BYTES) ?? "null"));
  } catch {
    return undefined;
  }
}

function parseJob(value: unknown): LaunchedJobInfo | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { pid, processStart, runId, attempt, node, nnodes, ranks, command, startedAt } = value as Readonly<
    Record<string, unknown>
  >;
  if (typeof runId !== "string" || !Array.isArray(command) || !isNumber(startedAt)) return undefined;
  if (!isCount(pid) || !isCount(processStart) || !isCount(attempt)) return undefined;
  if (!isCount(node, MAX_RANKS) || !isCount(nnodes, MAX_RANKS) || !isCount(ranks, MAX_RANKS)) return undefined;
  const words = command.slice(0, MAX_ARGUMENTS).map((word) => (typeof word === "string" ? printable(word) : ""));
  return { pid, processStart, runId: printable(runId), attempt, node, nnodes, ranks, command: words, startedAt };
}

function isNumber(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

function isCount(value: unknown, most = Number.MAX_SAFE_INTEGER): value is number {
  return Number.isSafeInteger(value) && isNumber(value) && value >= 0 && value <= most;
}
