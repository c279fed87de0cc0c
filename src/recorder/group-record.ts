import type { DeviceType } from "../tensor/index.ts";
import type { RecordedGroup } from "./trace-entry.ts";

/** What a {@link GroupRecord} is made from. */
export interface GroupRecordInit extends RecordedGroup {
  /** Name of the backend for each device type. */
  readonly backends?: Readonly<Partial<Record<DeviceType, string>>>;
  /** Id of its world, the same on all ranks: what tells it from another job, or from an earlier world of this process. */
  readonly world?: string | undefined;
  /** Whether its ops go to several communicators, each of which numbers its own: then their numbers are not unique. */
  readonly isCombined?: boolean | undefined;
}

/** Tags are below this. */
const TAGS = 2 ** 32;

/** A group as the recorder knows it, with the numbers of its ops. It does not keep the group itself. */
export class GroupRecord implements RecordedGroup {
  readonly name: string;
  readonly description: string;
  readonly rank: number;
  readonly globalRanks: readonly number[];
  readonly backends: Readonly<Partial<Record<DeviceType, string>>>;
  readonly world: string | undefined;
  readonly isCombined: boolean;
  #collectives = 0;
  /** Number of messages per channel: direction, peer and tag. */
  readonly #messages = new Map<number, number>();

  constructor({ name, description, rank, globalRanks, backends = {}, world, isCombined = false }: GroupRecordInit) {
    this.name = name;
    this.description = description;
    this.rank = rank;
    this.globalRanks = globalRanks;
    this.backends = backends;
    this.world = world;
    this.isCombined = isCombined;
  }

  /** Number of the next collective, from 1. */
  nextCollective(): number {
    return ++this.#collectives;
  }

  /** Number of the next message of a channel, from 1. */
  nextMessage(peer: number, isRecv: boolean, tag: number): number {
    const channel = (2 * (peer + 1) + Number(isRecv)) * TAGS + tag;
    const number = (this.#messages.get(channel) ?? 0) + 1;
    this.#messages.set(channel, number);
    return number;
  }

  /** Global rank of a rank of the group; -1 for none. */
  globalRankOf(rank: number): number {
    return this.globalRanks[rank] ?? -1;
  }
}

/** The group of an entry that has none. */
export const NO_GROUP = new GroupRecord({ name: "", description: "", rank: 0, globalRanks: [] });
