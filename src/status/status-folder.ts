import { closeSync, constants, existsSync, openSync, readdirSync, rmdirSync, statSync, unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { printable } from "../errors/index.ts";
import { createOwnFolder, type FolderFinding, isTemporaryName, ownFolder } from "../files/index.ts";
import { JOB_FILE, type LaunchedJobInfo, readJobFile } from "./job-file.ts";
import { isAnnouncement, removeLeftSocket } from "./left-socket.ts";
import { processState } from "./process-state.ts";
import type { RankRecord, RankStatus } from "./rank-status.ts";
import { ENDED_FILE, REPORTED_FILE, readEnded } from "./reported-statuses.ts";
import { readRecord, readStatus } from "./status-reader.ts";

/** A folder that nobody uses is removed when it is this old: its job may be starting. */
const SWEEP_AFTER_MS = 60_000;
const RECORD = /^rank-\d+(-\d+)?$/;
const OTHER_FILES: ReadonlySet<string> = new Set([JOB_FILE, REPORTED_FILE, ENDED_FILE]);

/** The folder of all jobs of this user on this host, if no other user can have put anything into it. */
function statusRoot(): FolderFinding {
  return createOwnFolder(rootPath());
}

function rootPath(): string {
  const base = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();
  return join(base, `bun-c10d-status-${process.getuid?.() ?? 0}`);
}

/** The folder of one job; created if it is missing. */
export function jobFolder(job: string): FolderFinding {
  const root = statusRoot();
  return root.path === undefined ? root : createOwnFolder(join(root.path, job));
}

/** Path of the record of a rank; ranks of several worlds in one process have several. */
export function recordPath(folder: string, rank: number, copy: number): string {
  return join(folder, copy === 0 ? `rank-${rank}` : `rank-${rank}-${copy}`);
}

/** The records in the folder of a job, by rank. */
export function readStatuses(folder: string): RankStatus[] {
  return recordPaths(folder)
    .flatMap((path) => readStatus(path) ?? [])
    .sort((a, b) => a.rank - b.rank);
}

/** The same with all ops that the records still have. */
export function readRecords(folder: string): RankRecord[] {
  return recordPaths(folder)
    .flatMap((path) => readRecord(path) ?? [])
    .sort((a, b) => a.rank - b.rank || a.thread - b.thread);
}

/** The paths of the records in the folder of a job. */
export function recordPaths(folder: string): string[] {
  return namesIn(folder).flatMap((name) => (RECORD.test(name) ? [join(folder, name)] : []));
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** A job on this host. */
export interface JobStatus {
  /** Name of its folder. */
  readonly id: string;
  readonly folder: string;
  /** What its launcher says, if it is `c10d run`. */
  readonly launched: LaunchedJobInfo | undefined;
  /** Whether its launcher or a rank is running. */
  readonly isRunning: boolean;
  readonly ranks: readonly RankStatus[];
}

/** The jobs of this user on this host, the newest first. */
export function readJobs(path = rootPath()): JobStatus[] {
  const root = ownFolder(path).path;
  if (root === undefined) return [];
  const dated = namesIn(root).flatMap((name) => {
    const folder = ownFolder(join(root, name)).path;
    const found = folder === undefined ? undefined : statSync(folder, { throwIfNoEntry: false });
    return folder === undefined || found === undefined ? [] : [{ folder, madeAt: found.birthtimeMs }];
  });
  return dated.sort((a, b) => b.madeAt - a.madeAt).map(({ folder }) => readJob(folder));
}

export function readJob(folder: string): JobStatus {
  const launched = readJobFile(folder);
  const recorded = readStatuses(folder);
  const known = new Set(recorded.map(({ rank }) => rank));
  const ranks = [...recorded, ...readEnded(folder).filter(({ rank }) => !known.has(rank))];
  const isLauncherAlive = launched !== undefined && processState(launched.pid, launched.processStart) !== "gone";
  return {
    id: printable(basename(folder)),
    folder,
    launched,
    isRunning: isLauncherAlive || !ranks.every(isOver),
    ranks,
  };
}

/** Removes what jobs left behind whose processes have all ended. */
export function sweepJobs(path = rootPath()): void {
  if (!canRead(path)) return;
  for (const { folder, isRunning } of readJobs(path)) {
    const found = statSync(folder, { throwIfNoEntry: false });
    if (!isRunning && found !== undefined && Date.now() - found.mtimeMs > SWEEP_AFTER_MS) removeJob(folder);
  }
}

/** Removes the folder of a job unless one of its ranks or its launcher is still running. Returns whether it did. */
export function removeIfOver(folder: string): boolean {
  if (!canRead(folder) || readJob(folder).isRunning) return false;
  removeJob(folder);
  return true;
}

/** Whether a rank has closed its groups, or its process has ended. */
export function isOver({ process, closedAt, exitedAt }: RankStatus): boolean {
  return process === "gone" || closedAt !== undefined || exitedAt !== undefined;
}

/** Whether records can be read: a process without free descriptors would take every job for one that is over. */
export function canRead(folder: string): boolean {
  try {
    closeSync(openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NONBLOCK));
    return true;
  } catch {
    return false;
  }
}

/** Removes the folder of a job, with what this package has put there, and the socket files that its ranks have left. */
export function removeJob(folder: string): void {
  for (const name of namesIn(folder)) {
    if (isAnnouncement(name)) attempt(() => removeLeftSocket(folder, name));
    else if (RECORD.test(name) || OTHER_FILES.has(name) || isTemporaryName(name))
      attempt(() => unlinkSync(join(folder, name)));
  }
  attempt(() => rmdirSync(folder));
}

/** Another process may have removed it, or put something there meanwhile. */
function attempt(act: () => void): void {
  try {
    act();
  } catch {
    // Left as it is.
  }
}
