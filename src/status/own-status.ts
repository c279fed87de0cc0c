import { unlinkSync } from "node:fs";
import { environmentFlag, environmentText } from "../environment/index.ts";
import { messageOf } from "../errors/index.ts";
import { ownFolder } from "../files/index.ts";
import { mayShareWorld } from "./called-turns.ts";
import { isJobId } from "./job-id.ts";
import { withLastingStates } from "./lasting-states.ts";
import {
  type MissingRanks,
  missingMembers,
  missingRanks,
  type OverdueGroup,
  type OverdueOp,
  possibleSenders,
} from "./missing-ranks.ts";
import { ownThread } from "./process-state.ts";
import { type CalledOp, publishedSites } from "./published-sites.ts";
import type { RankStatus } from "./rank-status.ts";
import { readEnded, readReported } from "./reported-statuses.ts";
import {
  canRead,
  isOver,
  jobFolder,
  readStatuses,
  recordPath,
  removeIfOver,
  removeJob,
  sweepJobs,
} from "./status-folder.ts";
import { readStatus } from "./status-reader.ts";
import { StatusRecord } from "./status-record.ts";

/** What {@link OwnStatus.open} needs. */
export interface OwnStatusPlan {
  /** Global rank. */
  readonly rank: number;
  /** 0 if it is not known yet. */
  readonly worldSize: number;
  /** Id that all ranks of the job have agreed on; undefined if they have not met yet. */
  readonly job: string | undefined;
  /** Id of the job before they have met, if another launcher than `c10d run` lets all of them know it. */
  readonly launcherJob?: string | undefined;
  /** Called with the reason if there can be no record. */
  readonly onFault: (text: string) => void;
}

/** How many records one rank of a job can have: in several Workers of one process, for example. */
const MAX_COPIES = 16;

const open = new Set<OwnStatus>();
/** The last record of each rank that has closed its groups: others may still ask what it did. */
const closed = new Map<number, OwnStatus>();
let isExitWatched = false;

/** The record of this rank, beside those of the other ranks on this host. */
export class OwnStatus {
  /**
   * Creates the record of this rank in the folder that the launcher names, else in that of the job. Never throws:
   * undefined if records are turned off, or cannot be created, or there is neither folder yet.
   */
  static open(plan: OwnStatusPlan): OwnStatus | undefined {
    if (!environmentFlag("C10D_STATUS")) return undefined;
    try {
      const given = environmentText("C10D_STATUS_DIR");
      if (given === undefined && plan.job === undefined && plan.launcherJob === undefined) return undefined;
      return openIn(plan, given);
    } catch (error) {
      plan.onFault(messageOf(error));
      return undefined;
    }
  }

  readonly record: StatusRecord;
  #rank: number;
  #worldSize: number;
  #world: number;
  readonly #folder: string;
  readonly #isLaunched: boolean;

  constructor(
    { rank, worldSize }: Pick<OwnStatusPlan, "rank" | "worldSize">,
    world: number,
    record: StatusRecord,
    folder: string,
    isLaunched: boolean,
  ) {
    this.#rank = rank;
    this.#worldSize = worldSize;
    this.#world = world;
    this.record = record;
    this.#folder = folder;
    this.#isLaunched = isLaunched;
    open.add(this);
    if (isExitWatched) return;
    isExitWatched = true;
    process.on("exit", (code) => {
      for (const each of [...open, ...closed.values()]) each.leaveAtExit(code);
    });
  }

  /** Global rank. */
  get rank(): number {
    return this.#rank;
  }

  /** The rank has met the others. */
  join({ rank, worldSize, job }: { readonly rank: number; readonly worldSize: number; readonly job: string }): void {
    if (rank !== this.#rank) closed.get(rank)?.remove();
    this.#rank = rank;
    this.#worldSize = worldSize;
    this.#world = worldNumber(job);
    this.record.join(rank, worldSize, this.#world);
  }

  /** What the ranks of the world are doing, by global rank: those on this host, and others that the launcher asked for. */
  ranks(): ReadonlyMap<number, RankStatus> {
    return this.#byRank(withLastingStates(this.#all()));
  }

  /** Where other ranks of a group made their call of the same turn, by rank in the group: those that publish it. */
  publishedSites(op: CalledOp, ranks: readonly number[]): Map<number, string> {
    // Whether a process keeps running does not matter here.
    return publishedSites(op, ranks, () => this.#byRank(this.#all()));
  }

  #all(): readonly RankStatus[] {
    // Workers and programs that a rank starts inherit its folder, and may make worlds of their own.
    const all = [...readStatuses(this.#folder), ...readEnded(this.#folder), ...readReported(this.#folder)];
    const own = { world: this.#world, worldSize: this.#worldSize };
    return all.filter((each) => mayShareWorld(each, own));
  }

  #byRank(statuses: readonly RankStatus[]): ReadonlyMap<number, RankStatus> {
    const found = new Map<number, RankStatus>();
    for (const status of statuses) {
      const known = found.get(status.rank);
      // A rank that was started again may have left its first record.
      if (known === undefined || isOver(known)) found.set(status.rank, status);
    }
    return found;
  }

  /** Describes the ranks that an op waits for, by what {@link ranks} has returned. */
  missingRanks(op: OverdueOp, ranks: ReadonlyMap<number, RankStatus>): MissingRanks {
    return missingRanks(op, ranks);
  }

  /** Describes the ranks of which a `recv` from any waits for one, by what {@link ranks} has returned. */
  possibleSenders(op: Pick<OverdueOp, "rank" | "globalRanks">, ranks: ReadonlyMap<number, RankStatus>): string {
    return possibleSenders(op, ranks);
  }

  /** Describes the ranks that a new group waits for. */
  missingMembers(group: OverdueGroup): string {
    return missingMembers(group, this.ranks());
  }

  /**
   * The rank has closed its groups. Its record stays until it opens another, so that the other ranks and the launcher can
   * read what it did last; the last rank removes the folder, unless the launcher does.
   */
  close(): void {
    if (!open.delete(this)) return;
    this.record.close();
    const rank = this.#rank;
    closed.get(rank)?.remove();
    if (this.#isLaunched || !removeIfOver(this.#folder)) closed.set(rank, this);
  }

  /** Removes the record of a rank that has closed its groups. */
  remove(): void {
    if (closed.get(this.#rank) === this) closed.delete(this.#rank);
    unlinkIfThere(this.record.path);
    if (!this.#isLaunched) removeIfOver(this.#folder);
  }

  /** The process exits: the other ranks and the launcher can still read what this one did last. */
  leaveAtExit(code: number): void {
    this.record.markExit(code);
    if (this.#isLaunched || !canRead(this.#folder)) return;
    const own = ownThread();
    const isOther = ({ pid, thread }: RankStatus) => pid !== process.pid || thread !== own;
    const others = readStatuses(this.#folder).filter((each) => isOther(each) && !isOver(each));
    if (others.length === 0) removeJob(this.#folder);
  }
}

function openIn(plan: OwnStatusPlan, given: string | undefined): OwnStatus | undefined {
  const { rank, worldSize, job = "", onFault } = plan;
  const id = plan.job ?? plan.launcherJob ?? "";
  if (given === undefined && !isJobId(id)) throw new Error(`the id of the job is ${JSON.stringify(id)}`);
  closed.get(rank)?.remove();
  if (given === undefined && rank === 0) sweepJobs();
  for (let tries = 0; ; tries++) {
    const { path: folder, fault } = given === undefined ? jobFolder(id) : ownFolder(given);
    if (folder === undefined) {
      onFault(fault);
      return undefined;
    }
    try {
      const world = job === "" ? 0 : worldNumber(job);
      return new OwnStatus(plan, world, createRecord(folder, rank, worldSize, world), folder, given !== undefined);
    } catch (error) {
      // The last rank of an earlier meeting has just removed the folder.
      if ((error as NodeJS.ErrnoException).code !== "ENOENT" || given !== undefined || tries === 3) throw error;
    }
  }
}

/** A number for the id of a world, which records hold. */
function worldNumber(job: string): number {
  return Number(BigInt.asUintN(48, BigInt(Bun.hash(job))));
}

function createRecord(folder: string, rank: number, worldSize: number, world: number): StatusRecord {
  for (let copy = 0; ; copy++) {
    const path = recordPath(folder, rank, copy);
    if (isLeftOver(path)) unlinkIfThere(path);
    try {
      return StatusRecord.create(path, rank, worldSize, world);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST" || copy === MAX_COPIES) throw error;
    }
  }
}

/** Whether nobody writes a record any more: that of an earlier attempt, or of another Worker that has closed its groups. */
function isLeftOver(path: string): boolean {
  const status = readStatus(path);
  return status?.process === "gone" || (status?.pid === process.pid && isOver(status));
}

function unlinkIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Another process has removed it.
  }
}
