import type { FileHandle } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { environmentFlag } from "../../environment/index.ts";
import { messageOf, shortageOf } from "../../errors/index.ts";
import { createFoldersIn, createOwnFile } from "../../files/index.ts";
import {
  jobFolder,
  type LaunchedJobInfo,
  missingTexts,
  processStart,
  type RankRecord,
  type RankStatus,
  readRecords,
  readStatuses,
  removeJob,
  requestDumps,
  standingText,
  statusText,
  sweepJobs,
  withLastingStates,
  writeEnded,
  writeJobFile,
  writeReported,
} from "../../status/index.ts";
import { LONG_MS, NOT_CALLED } from "../ranks/rank-row.ts";
import type { LogFolder } from "./log-file.ts";
import type { RankExit } from "./rank-process.ts";

/** How long ranks that are going to be ended may take to write their flight recorders. */
const DUMP_LIMIT_MS = 1_000;

/** A rank that the launcher has started. */
export interface StartedRank {
  readonly rank: number;
  readonly pid: number;
  /** How it ended; `undefined` while it runs. */
  readonly exit: RankExit | undefined;
  /** When it ended, in milliseconds since the epoch. */
  readonly endedAt?: number | undefined;
}

/** What the ranks of an attempt on this node were doing at one moment. */
export interface StatusReport {
  readonly ranks: readonly RankStatus[];
  /** A block of lines; empty if there is no record: no rank has called `initProcessGroup`, or records are turned off. */
  readonly text: string;
}

export interface AttemptStatusOptions
  extends Pick<LaunchedJobInfo, "runId" | "node" | "nnodes" | "command" | "attempt"> {
  readonly ranks: number;
  /** Where the reports go as well. */
  readonly logs: LogFolder | undefined;
  readonly onFault: (text: string) => void;
}

/** What is said if no rank has a record. */
export const NONE_CALLED = "c10d run: no rank has called initProcessGroup\n";

/** The status records of the ranks of one attempt on this node. They are removed when this is disposed of. */
export class AttemptStatus implements Disposable {
  /** Folder for the records; undefined if records are turned off, or it cannot be created. */
  readonly folder: string | undefined;
  readonly #options: AttemptStatusOptions;
  /** Ranks that have ended without a record. */
  readonly #ended: RankStatus[] = [];
  #log: Promise<FileHandle> | undefined;

  constructor(options: AttemptStatusOptions) {
    this.#options = options;
    if (!environmentFlag("C10D_STATUS")) return;
    const { runId, node, nnodes, attempt, ranks, command } = options;
    try {
      sweepJobs();
      // The id may come from another node.
      const id = runId.slice(0, 40).replace(/[^\w.-]/g, "_");
      const { path, fault } = jobFolder(`${id}.${attempt}.${node}.${crypto.randomUUID().slice(0, 8)}`);
      if (path === undefined) {
        options.onFault(fault);
        return;
      }
      const started = { pid: process.pid, processStart: processStart(process.pid), startedAt: Date.now() };
      const info: LaunchedJobInfo = { ...started, runId, attempt, node, nnodes, ranks, command };
      writeJobFile(path, info);
      this.folder = path;
    } catch (error) {
      // The job does not depend on it; the start of the ranks says what has run out.
      if (shortageOf(error) === undefined) options.onFault(messageOf(error));
    }
  }

  /** The records of the ranks here. */
  ranks(): readonly RankStatus[] {
    return this.folder === undefined ? [] : readStatuses(this.folder);
  }

  /** The same with all ops that the records still have. */
  records(): readonly RankRecord[] {
    return this.folder === undefined ? [] : readRecords(this.folder);
  }

  /** Leaves what other nodes report for the ranks here. */
  tell(others: readonly RankStatus[]): void {
    try {
      if (this.folder !== undefined) writeReported(this.folder, others);
    } catch (error) {
      this.#options.onFault(messageOf(error));
    }
  }

  /** A rank has ended: if it has no record, the others could not tell that from a rank that is on its way. */
  noteEnd({ rank, pid, exitCode }: RankExit): void {
    if (this.folder === undefined || this.ranks().some((status) => status.rank === rank)) return;
    const { ranks, nnodes } = this.#options;
    const now = Date.now();
    this.#ended.push({
      ...{ rank, worldSize: ranks * nnodes, world: 0, host: hostname(), pid, thread: 0, program: "", process: "gone" },
      ...{ openedAt: 0, exitedAt: now, exitCode, groups: [], inFlight: [], pending: 0, last: undefined },
      ...{ lastFailed: undefined, begun: 0, failed: 0, bytes: 0, at: now },
    });
    try {
      writeEnded(this.folder, this.#ended);
    } catch (error) {
      this.#options.onFault(messageOf(error));
    }
  }

  /** What other nodes are told: what the records say, and which ranks have ended without one. */
  answer(): readonly RankStatus[] {
    const at = Date.now();
    return [...this.ranks(), ...this.#ended.map((status) => ({ ...status, at }))];
  }

  /** What these ranks are doing now. */
  report(started: readonly StartedRank[]): StatusReport {
    const statuses = withLastingStates(this.ranks());
    if (statuses.length === 0) return { ranks: [], text: "" };
    const ofPid = (pid: number) => statuses.filter((status) => status.pid === pid);
    const own = started.flatMap(({ rank, pid, exit, endedAt }) => {
      const found = ofPid(pid);
      const end = exit === undefined ? "" : `${endText(exit)}; `;
      if (found.length === 0) return [`rank ${rank} (pid ${pid}): ${exit ? endText(exit) : NOT_CALLED}`];
      return found.map((status) => lineOf(status, end, endedAt));
    });
    // Ranks that a program of the job has started, such as a shell or a launcher.
    const others = statuses.filter(({ pid }) => started.every((rank) => rank.pid !== pid));
    const lines = [...own, ...others.map((status) => lineOf(status, ""))];
    const list = lines.map((line) => `  ${line}\n`).join("");
    const missing = missingTexts(statuses, LONG_MS).map((text) => `${text}\n`);
    return { ranks: statuses, text: `what the ranks were doing:\n${list}${missing.join("")}` };
  }

  /** Has the ranks write their flight recorders, if they know where to. */
  async dump(): Promise<void> {
    if (this.folder !== undefined) await requestDumps(this.folder, DUMP_LIMIT_MS);
  }

  /** Appends a report to `status.log` beside the logs of the ranks. */
  async log({ text }: StatusReport): Promise<void> {
    const { logs, onFault } = this.#options;
    if (logs === undefined || text === "") return;
    try {
      this.#log ??= createOwnFile(join(createFoldersIn(logs.base, ...logs.below), "status.log"));
      const file = await this.#log;
      await file.writeFile(`${new Date().toISOString()} ${text}`);
    } catch (error) {
      onFault(messageOf(error));
    }
  }

  [Symbol.dispose](): void {
    this.#log?.then((file) => file.close()).catch(() => {});
    if (this.folder !== undefined) removeJob(this.folder);
  }
}

/** What a rank was doing; `end` tells how it has ended, and when. */
export function lineOf(status: RankStatus, end: string, endedAt?: number): string {
  // How it ended is known better than that it has.
  const text = end === "" ? statusText(status) : standingText({ ...status, exitedAt: status.exitedAt ?? endedAt });
  return `rank ${status.rank} (pid ${status.pid}): ${end}${text}`;
}

export function endText({ signal, exitCode }: RankExit): string {
  return signal === undefined ? `exited with code ${exitCode}` : `ended by ${signal}`;
}
