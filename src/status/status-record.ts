import { closeSync, constants, openSync, unlinkSync, writeSync } from "node:fs";
import { hostname } from "node:os";
import { type CallSite, DistError, lineOf } from "../errors/index.ts";
import { programFile } from "../files/index.ts";
import { startTimer, type Timer } from "../time/index.ts";
import { failureOf, hasEnded, numberOf, serveWhileBlocked, type Work } from "../work/index.ts";
import { endOf } from "./end-of-text.ts";
import { GroupPhases, type RecordedMaking } from "./group-phases.ts";
import { GroupPlaces } from "./group-places.ts";
import { GroupStatus } from "./group-status.ts";
import { LONG_WAIT_MS } from "./long-wait.ts";
import { OpSlots } from "./op-slots.ts";
import { ownThread, pidNamespace, processStart } from "./process-state.ts";
import {
  DumpState,
  ERROR_TEXT,
  HEADER_TEXT,
  Header,
  RECORD_BYTES,
  RECORD_LAYOUT,
  SLOT_TEXT,
  SLOTS,
  Slot,
  SlotState,
  slotAt,
} from "./record-layout.ts";

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = constants;
const encoder = new TextEncoder();

/** What a record says of a group. */
export interface RecordedStanding {
  readonly name: string;
  readonly backends: readonly string[];
  /** Rank in the group. */
  readonly rank: number;
  readonly size: number;
}

/** The records of this thread that are open. */
const records = new Set<StatusRecord>();
let timer: Timer | undefined;

/** How often a rank whose thread does not block looks whether its dump is wanted. */
const DUMP_LOOK_MS = 200;

/** What a rank is doing, in memory that other processes of this user on the host can read. */
export class StatusRecord {
  /** Creates a record in a file that does not exist yet. @throws the system's error. */
  static create(path: string, rank: number, worldSize: number, world = 0): StatusRecord {
    const file = openSync(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    try {
      // All of it: a file with holes would end the process when the file system is full.
      if (writeSync(file, new Uint8Array(RECORD_BYTES)) < RECORD_BYTES) throw new Error(`${path}: no space left`);
      return new StatusRecord(path, Bun.mmap(path, { shared: true }), rank, worldSize, world);
    } catch (error) {
      unlinkSync(path);
      throw error;
    } finally {
      closeSync(file);
    }
  }

  readonly path: string;
  readonly #bytes: Uint8Array;
  readonly #words: Float64Array;
  readonly #slots: OpSlots;
  readonly #places: GroupPlaces;
  /** By slot. */
  readonly #works: (Work<unknown> | undefined)[] = Array.from({ length: SLOTS }, () => undefined);
  readonly #callSites: (CallSite | undefined)[] = Array.from({ length: SLOTS }, () => undefined);
  readonly #phases = new GroupPhases(this);
  /** Open groups by name. */
  readonly #groups = new Map<string, GroupStatus>();
  #groupCount = 0;
  #begun = 0;
  #ended = 0;
  #failed = 0;
  #sentBytes = 0;
  /** Whether the timer has to be started for the next op. */
  #isIdle = true;
  /** Timers do not run while `wait()` blocks the thread. */
  readonly #service = serveWhileBlocked(() => {
    this.publishLate();
    this.#dumpIfWanted();
  });
  #writeDump: (() => void) | undefined;
  #dumpTimer: ReturnType<typeof setInterval> | undefined;

  private constructor(path: string, bytes: Uint8Array, rank: number, worldSize: number, world: number) {
    this.path = path;
    this.#bytes = bytes;
    this.#words = new Float64Array(bytes.buffer, bytes.byteOffset, RECORD_BYTES / 8);
    this.#slots = new OpSlots(this.#words);
    this.#places = new GroupPlaces(this.#words, (...text) => this.writeText(...text));
    const words = this.#words;
    words[Header.pid] = process.pid;
    words[Header.processStart] = processStart(process.pid);
    words[Header.thread] = ownThread();
    this.join(rank, worldSize, world);
    words[Header.timeOrigin] = performance.timeOrigin;
    words[Header.openedAt] = performance.now();
    const about = `${hostname()}\n${pidNamespace()}\n${programFile() ?? ""}`;
    this.writeText(Header.textLength, HEADER_TEXT.at, HEADER_TEXT.bytes, about);
    // Last: readers ignore a record without it.
    words[Header.layout] = RECORD_LAYOUT;
    records.add(this);
  }

  /** The rank has met the others. */
  join(rank: number, worldSize: number, world: number): void {
    this.#words[Header.rank] = rank;
    this.#words[Header.worldSize] = worldSize;
    this.#words[Header.world] = world;
  }

  /** Adds a group. When there are too many, the record has those that were used last. */
  group(standing: RecordedStanding): GroupStatus {
    const group = new GroupStatus(this, ++this.#groupCount, standing);
    this.#groups.set(standing.name, group);
    this.place(group);
    return group;
  }

  /** For {@link GroupStatus}. */
  place(group: GroupStatus): void {
    group.usedAt = this.#begun;
    this.#places.give(group, this.#groups.values(), (number) => this.#isInFlight(number));
  }

  /** Whether the record has an op in flight of the group of this number. */
  #isInFlight(number: number): boolean {
    return this.#works.some((work, slot) => work !== undefined && this.#words[slotAt(slot) + Slot.group] === number);
  }

  /** Records that a group is being made, until `end` is called. `turn` is its place among those of its parent. */
  making(making: RecordedMaking): { readonly turn: number; readonly end: () => void } {
    const { parent } = making;
    return this.#phases.make(making, parent === undefined ? undefined : this.#groups.get(parent));
  }

  /** For {@link GroupStatus}. A group is being closed, from now on or no longer. */
  setClosing(group: GroupStatus, isClosing: boolean): void {
    this.#phases.setClosing(group, isClosing);
  }

  /** For {@link GroupStatus}. */
  forget(group: GroupStatus): void {
    const { name } = group.standing;
    if (this.#groups.get(name) === group) this.#groups.delete(name);
  }

  /** From now on, others can ask this rank to write its flight recorder, also while its thread blocks in a wait. */
  offerDump(write: () => void): void {
    this.#writeDump = write;
    this.#words[Header.dump] = DumpState.offered;
    clearInterval(this.#dumpTimer);
    this.#dumpTimer = setInterval(() => this.#dumpIfWanted(), DUMP_LOOK_MS);
    this.#dumpTimer.unref();
  }

  #dumpIfWanted(): void {
    if (this.#words[Header.dump] !== DumpState.wanted) return;
    try {
      this.#writeDump?.();
    } finally {
      this.#words[Header.dump] = DumpState.written;
    }
  }

  /** For {@link GroupStatus}. Records a pending op; returns its slot, -1 if there is no room. */
  begin(
    group: GroupStatus,
    work: Work<unknown>,
    op: number,
    turn: number,
    peer: number,
    began: number,
    bytes: number,
    callSite: CallSite | undefined,
    timeoutMs: number,
  ): number {
    const words = this.#words;
    const number = ++this.#begun;
    words[Header.begun] = number;
    this.#sentBytes += bytes;
    words[Header.bytes] = this.#sentBytes;
    if (this.#isIdle) this.#watch();
    group.usedAt = number;
    const slot = this.#slots.take(turn, group.number);
    if (slot < 0) return -1;
    this.#works[slot] = work;
    this.#callSites[slot] = callSite;
    const at = slotAt(slot);
    words[at + Slot.number] = number;
    words[at + Slot.op] = op;
    words[at + Slot.seq] = numberOf(work);
    words[at + Slot.group] = group.number;
    words[at + Slot.turn] = turn;
    words[at + Slot.peer] = peer;
    words[at + Slot.began] = began;
    words[at + Slot.deadline] = Number.isFinite(timeoutMs) ? began + timeoutMs : 0;
    words[at + Slot.textLength] = 0;
    words[at + Slot.state] = SlotState.pending;
    words[at + Slot.check] = number;
    return slot;
  }

  /** For {@link GroupStatus}. Replaces the Work of a pending op that stood in for this one. */
  attach(slot: number, standIn: Work<unknown>, work: Work<unknown>): void {
    if (slot < 0 || this.#works[slot] !== standIn) return;
    this.#works[slot] = work;
    this.#words[slotAt(slot) + Slot.seq] = numberOf(work);
  }

  /** For {@link GroupStatus}. Records the end of an op. */
  end(group: GroupStatus, slot: number, work: Work<unknown>, ended: number, hasFailed: boolean): void {
    const words = this.#words;
    words[Header.ended] = ++this.#ended;
    if (hasFailed) words[Header.failed] = ++this.#failed;
    // An op that came later has got its slot.
    if (slot < 0 || this.#works[slot] !== work) return;
    const at = slotAt(slot);
    if (words[at + Slot.seq] === -1) words[at + Slot.seq] = numberOf(work);
    const code = hasFailed ? failureOf(work)?.code : undefined;
    const { failure } = group;
    // What the group refuses since it has failed, or ends with it, does not hide the op with which it failed.
    const wasInFlight = failure !== undefined && (words[at + Slot.began] ?? 0) <= failure.at;
    const follows =
      hasFailed && failure !== undefined && (code === "GROUP_FAILED" || (wasInFlight && code === failure.code));
    if (hasFailed && !follows) {
      group.failure = { code, at: ended };
      this.#publish(slot, work);
      this.writeText(Header.errorLength, ERROR_TEXT.at, ERROR_TEXT.bytes, failureOf(work)?.message ?? "");
    }
    this.#works[slot] = undefined;
    this.#callSites[slot] = undefined;
    words[at + Slot.ended] = ended;
    words[at + Slot.state] = hasFailed ? failedState(failureOf(work)) : SlotState.succeeded;
    this.#slots.free(slot, follows);
    if (follows) return;
    words[Header.last] = slot + 1;
    if (hasFailed) words[Header.lastFailed] = slot + 1;
  }

  /** The place of a pending op among the collectives of its group; 0 if it has none or is not in the record. */
  turnOf(work: Work<unknown>): number {
    const slot = this.#works.indexOf(work);
    return slot < 0 ? 0 : (this.#words[slotAt(slot) + Slot.turn] ?? 0);
  }

  /** For {@link GroupStatus}. */
  set(word: number, value: number): void {
    this.#words[word] = value;
  }

  /** Publishes where the ops were called that have been pending for {@link LONG_WAIT_MS}. */
  publishLate(): void {
    if (this.isQuiet) return;
    const latest = performance.now() - LONG_WAIT_MS;
    for (let slot = 0; slot < SLOTS; slot++) {
      const work = this.#works[slot];
      if (work === undefined || hasEnded(work) || (this.#words[slotAt(slot) + Slot.began] ?? 0) > latest) continue;
      this.#publish(slot, work);
    }
  }

  /** Publishes where all ops were called that are not known to have ended. */
  publishAll(): void {
    for (const [slot, work] of this.#works.entries()) if (work !== undefined) this.#publish(slot, work);
  }

  #publish(slot: number, work: Work<unknown>): void {
    const at = slotAt(slot);
    // Known only once the turn of the op has come.
    this.#words[at + Slot.seq] = numberOf(work);
    if (this.#words[at + Slot.textLength] !== 0) return;
    const callSite = this.#callSites[slot];
    const text = callSite && lineOf(callSite);
    if (text !== undefined)
      this.writeText(at + Slot.textLength, at + SLOT_TEXT.at, SLOT_TEXT.bytes, endOf(text, SLOT_TEXT.bytes));
  }

  /** Whether no op is pending. */
  get isQuiet(): boolean {
    return this.#begun === this.#ended;
  }

  #watch(): void {
    this.#isIdle = false;
    watch();
  }

  /** For the timer, which has stopped. */
  rest(): void {
    this.#isIdle = true;
  }

  /** The process ends: the record stays for those who ask what it did last. */
  markExit(code: number): void {
    this.#words[Header.exitCode] = code;
    this.#words[Header.exitedAt] = performance.now();
  }

  /** The rank has closed its groups; no op is recorded from now on. The file is left to the caller. */
  close(): void {
    this.#words[Header.closedAt] = performance.now();
    this.#words[Header.dump] = DumpState.none;
    clearInterval(this.#dumpTimer);
    records.delete(this);
    this.#service[Symbol.dispose]();
  }

  /** For {@link GroupPhases}. */
  writeText(lengthAt: number, at: number, room: number, text: string): void {
    const bytes = this.#bytes.subarray(at * 8, at * 8 + room);
    const { written } = encoder.encodeInto(text, bytes);
    this.#words[lengthAt] = written;
  }
}

function failedState(error: Error | undefined): number {
  const code = error instanceof DistError ? error.code : undefined;
  if (code === "OP_TIMEOUT") return SlotState.timedOut;
  return code === "PEER_LOST" ? SlotState.gaveUp : SlotState.failed;
}

/** Publishes at once where the ops of all ranks of this thread were called that are pending or just failing. */
export function publishCallSites(): void {
  for (const record of records) record.publishAll();
}

/** One timer for all records of the thread, while ops are called or pending. */
function watch(): void {
  if (timer !== undefined) return;
  timer = startTimer(LONG_WAIT_MS, () => {
    timer = undefined;
    if ([...records].every((record) => record.isQuiet)) {
      for (const record of records) record.rest();
      return;
    }
    for (const record of records) record.publishLate();
    watch();
  });
  timer.unref();
}
