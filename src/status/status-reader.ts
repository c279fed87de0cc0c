import { readSync } from "node:fs";
import { printableProse } from "../errors/index.ts";
import { withOwnFile } from "../files/index.ts";
import { opOfCode } from "./op-codes.ts";
import { pidNamespace, processState } from "./process-state.ts";
import type {
  GroupClosing,
  GroupMaking,
  GroupStanding,
  OpStatus,
  RankRecord,
  RankStatus,
  RecordedOp,
} from "./rank-status.ts";
import {
  ERROR_TEXT,
  GROUP_TEXT,
  GROUPS,
  Group,
  groupAt,
  HEADER_TEXT,
  Header,
  MAKING_TEXT,
  makers,
  RECORD_BYTES,
  RECORD_LAYOUT,
  SLOT_TEXT,
  SLOTS,
  Slot,
  SlotState,
  slotAt,
} from "./record-layout.ts";

/** How often a record is read again of which some ops were being written. */
const MAX_READS = 5;
const decoder = new TextDecoder();

/** Reads the record of a rank; undefined if there is none, or another user's. The rank may be writing it meanwhile. */
export function readStatus(path: string): RankStatus | undefined {
  return readSnapshot(path)?.status();
}

/** {@link readStatus} with all ops that the record still has. */
export function readRecord(path: string): RankRecord | undefined {
  const snapshot = readSnapshot(path);
  return snapshot && { ...snapshot.status(), ops: snapshot.ops() };
}

function readSnapshot(path: string): Snapshot | undefined {
  return withOwnFile(path, { maxBytes: RECORD_BYTES }, (file, bytes) => {
    // It may be being created.
    if (bytes < RECORD_BYTES) return undefined;
    for (let reads = 1; ; reads++) {
      // Three copies: see record-layout.ts.
      const snapshot = new Snapshot(copy(file), copy(file), copy(file));
      if (!snapshot.isRecord) return undefined;
      if (snapshot.isWhole || reads === MAX_READS) return snapshot;
    }
  });
}

function copy(file: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(new ArrayBuffer(RECORD_BYTES));
  readSync(file, bytes, 0, RECORD_BYTES, 0);
  return bytes;
}

class Snapshot {
  readonly #before: Float64Array;
  readonly #bytes: Uint8Array;
  readonly #words: Float64Array;
  readonly #after: Float64Array;

  constructor(before: Uint8Array<ArrayBuffer>, bytes: Uint8Array<ArrayBuffer>, after: Uint8Array<ArrayBuffer>) {
    this.#before = new Float64Array(before.buffer);
    this.#bytes = bytes;
    this.#words = new Float64Array(bytes.buffer);
    this.#after = new Float64Array(after.buffer);
  }

  /** Whether the record is complete and of this version. */
  get isRecord(): boolean {
    const rank = this.#at(Header.rank);
    return this.#at(Header.layout) === RECORD_LAYOUT && Number.isSafeInteger(rank) && rank >= 0;
  }

  /** Whether no slot was being written. */
  get isWhole(): boolean {
    return slots.every((at) => this.#isStable(at));
  }

  status(): RankStatus {
    const [host = "", namespace, program = ""] = this.#lines(Header.textLength, HEADER_TEXT);
    const origin = this.#at(Header.timeOrigin);
    const pid = this.#at(Header.pid);
    const groups = this.#groups();
    const op = (at: number) => this.#op(at, origin, groups);
    const numbered = (place: number): OpStatus | undefined => {
      const at = slots[this.#at(place) - 1];
      return at !== undefined && this.#isStable(at) && this.#at(at + Slot.state) > SlotState.pending
        ? op(at)
        : undefined;
    };
    const pendingSlots = slots.filter((at) => this.#isStable(at) && this.#at(at + Slot.state) === SlotState.pending);
    const exitedAt = this.#at(Header.exitedAt);
    const closedAt = this.#at(Header.closedAt);
    return {
      rank: this.#at(Header.rank),
      worldSize: this.#at(Header.worldSize),
      world: this.#at(Header.world),
      host,
      pid,
      thread: this.#at(Header.thread),
      program,
      process: namespace === pidNamespace() ? processState(pid, this.#at(Header.processStart)) : undefined,
      openedAt: origin + this.#at(Header.openedAt),
      making: this.#making(origin, groups),
      closing: this.#closing(origin, groups),
      closedAt: closedAt === 0 ? undefined : origin + closedAt,
      exitedAt: exitedAt === 0 ? undefined : origin + exitedAt,
      exitCode: exitedAt === 0 ? undefined : this.#at(Header.exitCode),
      groups: [...groups.values()]
        .filter((at) => closedAt > 0 || this.#at(at + Group.isOpen) === 1)
        .map((at) => this.#group(at)),
      inFlight: pendingSlots.map(op).sort((a, b) => a.began - b.began),
      pending: Math.max(0, this.#at(Header.begun) - this.#at(Header.ended)),
      last: numbered(Header.last),
      lastFailed: numbered(Header.lastFailed),
      lastError: this.#text(Header.errorLength, ERROR_TEXT) || undefined,
      begun: this.#at(Header.begun),
      failed: this.#at(Header.failed),
      bytes: this.#at(Header.bytes),
      at: performance.timeOrigin + performance.now(),
    };
  }

  #making(origin: number, groups: ReadonlyMap<number, number>): GroupMaking | undefined {
    const maker = makers[this.#at(Header.making) - 1];
    if (maker === undefined) return undefined;
    const callSite = this.#text(Header.makingLength, MAKING_TEXT) || undefined;
    return {
      maker,
      parent: this.#nameOf(this.#at(Header.makingParent), groups),
      turn: this.#at(Header.makingTurn),
      began: origin + this.#at(Header.makingSince),
      callSite,
    };
  }

  #closing(origin: number, groups: ReadonlyMap<number, number>): GroupClosing | undefined {
    const number = this.#at(Header.closing);
    if (number === 0) return undefined;
    return { group: this.#nameOf(number, groups), began: origin + this.#at(Header.closingSince) };
  }

  #nameOf(group: number, groups: ReadonlyMap<number, number>): string | undefined {
    const at = groups.get(group);
    return at === undefined ? undefined : this.#group(at).name;
  }

  ops(): RecordedOp[] {
    const origin = this.#at(Header.timeOrigin);
    const groups = this.#groups();
    return slots
      .filter((at) => this.#isStable(at) && this.#at(at + Slot.state) !== SlotState.free)
      .map((at) => ({ number: this.#at(at + Slot.number), ...this.#op(at, origin, groups) }))
      .sort((a, b) => a.number - b.number);
  }

  /** Where each group is, by its number. */
  #groups(): ReadonlyMap<number, number> {
    const places = Array.from({ length: GROUPS }, (_, i) => groupAt(i));
    // Another group may have been taking the place.
    const isStable = (at: number) => this.#before[at + Group.number] === this.#after[at + Group.number];
    const placed = places.filter(isStable).map((at) => [this.#at(at + Group.number), at] as const);
    return new Map(placed.filter(([number]) => number > 0));
  }

  #group(at: number): GroupStanding {
    const [name = "", backend = ""] = this.#lines(at + Group.textLength, within(at, GROUP_TEXT));
    return {
      name,
      backend,
      rank: this.#at(at + Group.rank),
      size: this.#at(at + Group.size),
      turn: this.#at(at + Group.turn),
      made: this.#at(at + Group.made),
    };
  }

  #op(at: number, origin: number, groups: ReadonlyMap<number, number>): OpStatus {
    const state = this.#at(at + Slot.state);
    const groupPlace = groups.get(this.#at(at + Slot.group));
    const group = groupPlace === undefined ? undefined : this.#group(groupPlace);
    const callSite = this.#text(at + Slot.textLength, within(at, SLOT_TEXT));
    const deadline = this.#at(at + Slot.deadline);
    const isOver = deadline > 0 && origin + deadline <= performance.timeOrigin + performance.now();
    return {
      op: opOfCode(this.#at(at + Slot.op)),
      seq: this.#at(at + Slot.seq),
      group: group?.name,
      backend: group?.backend,
      turn: this.#at(at + Slot.turn),
      peer: this.#at(at + Slot.peer),
      began: origin + this.#at(at + Slot.began),
      ended: state === SlotState.pending ? undefined : origin + this.#at(at + Slot.ended),
      hasFailed: state >= SlotState.failed,
      hasGivenUp: state >= SlotState.gaveUp,
      hasTimedOut: state === SlotState.timedOut || (state === SlotState.pending && isOver),
      callSite: callSite === "" ? undefined : callSite,
    };
  }

  #isStable(at: number): boolean {
    return this.#before[at + Slot.check] === this.#after[at + Slot.number];
  }

  #at(word: number): number {
    const value = this.#words[word] ?? 0;
    return Number.isFinite(value) ? value : 0;
  }

  /** Goes to terminals, in a line. */
  #text(lengthAt: number, place: TextPlace): string {
    return printableProse(this.#rawText(lengthAt, place));
  }

  #lines(lengthAt: number, place: TextPlace): readonly string[] {
    return this.#rawText(lengthAt, place).split("\n").map(printableProse);
  }

  #rawText(lengthAt: number, { at, bytes }: TextPlace): string {
    const length = Math.min(bytes, Math.max(0, this.#at(lengthAt)));
    return decoder.decode(this.#bytes.subarray(at * 8, at * 8 + length));
  }
}

interface TextPlace {
  /** In words. */
  readonly at: number;
  readonly bytes: number;
}

const within = (at: number, place: TextPlace): TextPlace => ({ at: at + place.at, bytes: place.bytes });

const slots: readonly number[] = Array.from({ length: SLOTS }, (_, i) => slotAt(i));
