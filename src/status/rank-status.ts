import type { ProcessState } from "./process-state.ts";
import type { Maker } from "./record-layout.ts";

/** An op in a status record. Times are in milliseconds since the epoch. */
export interface OpStatus {
  /** Name under which users call it. */
  readonly op: string;
  /** Sequence number in its group; -1 if it has none, or none yet. */
  readonly seq: number;
  /** Name of its group; undefined if that is no longer known. */
  readonly group: string | undefined;
  readonly backend: string | undefined;
  /** Place among the collectives that the rank has called on the group, from 1; 0 for a message. */
  readonly turn: number;
  /** Peer of a message in the group; -1 for any. */
  readonly peer: number;
  readonly began: number;
  /** `undefined` while it is pending. */
  readonly ended: number | undefined;
  readonly hasFailed: boolean;
  /** Whether it failed because other ranks were late or lost, or gave up themselves. */
  readonly hasGivenUp?: boolean;
  /** Whether its time-out expired before it ended. */
  readonly hasTimedOut?: boolean;
  /** Where it was called, if it was pending for 100 ms or has failed. */
  readonly callSite: string | undefined;
}

/** A group in a status record. */
export interface GroupStanding {
  readonly name: string;
  readonly backend: string;
  /** Rank in the group. */
  readonly rank: number;
  readonly size: number;
  /** How many collectives the rank has called on it. */
  readonly turn: number;
  /** How many groups the rank has made, or begun to make, of this one. */
  readonly made: number;
}

/** A group that a rank is making: it waits for the other members. */
export interface GroupMaking {
  readonly maker: Maker;
  /** Name of the group of which it is made; undefined for the default group. */
  readonly parent: string | undefined;
  /** Place among the groups that the rank has made of that one, from 1; 0 for the default group. */
  readonly turn: number;
  /** In milliseconds since the epoch. */
  readonly began: number;
  readonly callSite: string | undefined;
}

/** A group that a rank is closing. */
export interface GroupClosing {
  /** Its name; undefined if that is no longer known. */
  readonly group: string | undefined;
  /** In milliseconds since the epoch. */
  readonly began: number;
}

/** What a rank is doing. */
export interface RankStatus {
  /** Global rank. */
  readonly rank: number;
  /** 0 if it is not known yet. */
  readonly worldSize: number;
  /** Number of its world, which tells it from others whose records are in the same folder; 0 in the rendezvous. */
  readonly world: number;
  readonly host: string;
  readonly pid: number;
  /** Id of the thread: 0 for the main thread, else a Worker. */
  readonly thread: number;
  /** File of its program; empty if it has none. */
  readonly program: string;
  /** State of its process; undefined if the system does not report it. */
  readonly process: ProcessState | undefined;
  /**
   * When the record was created: tells it from a later one of the same rank, which makes the default group again. 0 for
   * a rank without a record, of which its launcher only knows that it has ended.
   */
  readonly openedAt: number;
  /** The group that it has been making for longest. */
  readonly making?: GroupMaking | undefined;
  /** The group that it has been closing for longest. */
  readonly closing?: GroupClosing | undefined;
  /** When it closed its groups. */
  readonly closedAt?: number | undefined;
  /** When its process exited, if it was not ended by a signal. */
  readonly exitedAt: number | undefined;
  readonly exitCode?: number | undefined;
  /** Its open groups, at most the 32 that were used last; those it had, once it has closed them all. */
  readonly groups: readonly GroupStanding[];
  /** Ops in flight, the oldest first. With very many, some are missing. */
  readonly inFlight: readonly OpStatus[];
  /** Number of ops in flight. */
  readonly pending: number;
  /** The op that ended last. */
  readonly last: OpStatus | undefined;
  readonly lastFailed: OpStatus | undefined;
  /** Message of its error, maybe cut off. */
  readonly lastError?: string | undefined;
  /** Number of ops called so far. */
  readonly begun: number;
  readonly failed: number;
  /** Bytes of the tensors passed to ops so far. */
  readonly bytes: number;
  /** When this was read, by the clock of its host. */
  readonly at: number;
  /** When another host reported it, by the clock of this one; undefined if it was read here. */
  readonly reportedAt?: number | undefined;
}

/** An op with its number among the ops of its record. */
export interface RecordedOp extends OpStatus {
  readonly number: number;
}

/** All that a status record says. */
export interface RankRecord extends RankStatus {
  /** Ops in flight, and the last that have ended, by number: 64 at most. */
  readonly ops: readonly RecordedOp[];
}
