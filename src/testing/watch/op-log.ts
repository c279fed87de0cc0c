import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { MAX_FAULTS } from "../fault.ts";

/** An op that a rank was in. */
export interface LoggedOp {
  readonly op: string;
  /** Sequence number in its group; -1 if the backend had not assigned one. */
  readonly seq: number;
  readonly group: string;
  readonly backend: string;
  /** When it began, in milliseconds since the epoch. */
  readonly began: number;
}

/** What a log says about a rank. */
export interface LoggedOps {
  /** Ops that had not ended, the oldest first; at most as many as the log has room for. */
  readonly inFlight: readonly LoggedOp[];
  readonly begun: number;
  readonly ended: number;
  /** The op that ended last, and when. */
  readonly last: (LoggedOp & { readonly at: number }) | undefined;
  /** Whether each fault has fired. */
  readonly fired: readonly boolean[];
}

// The log is a file that the rank maps into its memory: what it writes there survives the rank, however it ends, and
// costs no system call.
const FAULTS_AT = 64;
const LAST_AT = 256;
const SLOTS_AT = 512;
const SLOT_BYTES = 256;
const SLOTS = 60;
const LOG_BYTES = SLOTS_AT + SLOTS * SLOT_BYTES;

const Header = { begun: 0, ended: 4, lastEndedAt: 8 } as const;
/** Offsets in a slot; `length` is that of the text, 0 in a free slot. */
const Slot = { length: 0, seq: 4, began: 8, text: 16 } as const;

/** Makes an empty log in a file. */
export function createOpLog(path: string): void {
  writeFileSync(path, new Uint8Array(LOG_BYTES));
}

/** Removes the log if the process that reads it has died; the last of its ranks removes the folder, too. */
export function removeOpLog(path: string): void {
  rmSync(path, { force: true });
  const folder = dirname(path);
  try {
    // Besides logs of other ranks there are only the status records.
    if (readdirSync(folder).every((name) => name === "status")) rmSync(folder, { recursive: true, force: true });
  } catch {
    // Another rank has removed it.
  }
}

/** Makes an empty log in memory that a Worker shares. */
export function shareOpLog(): SharedArrayBuffer {
  return new SharedArrayBuffer(LOG_BYTES);
}

/** The rank's side of a log. */
export class OpLogWriter {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #free: number[] = Array.from({ length: SLOTS }, (_, i) => SLOTS_AT + i * SLOT_BYTES).reverse();
  readonly #encoder = new TextEncoder();

  /** @param log Path of the file, or the memory. */
  constructor(log: string | SharedArrayBuffer) {
    this.#bytes = typeof log === "string" ? Bun.mmap(log, { shared: true }) : new Uint8Array(log);
    this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.byteLength);
  }

  /** Records an op. Returns its slot; undefined if there is no room. */
  begin(op: string, group: string, backend: string): number | undefined {
    this.#count(Header.begun);
    const slot = this.#free.pop();
    if (slot === undefined) return undefined;
    const room = this.#bytes.subarray(slot + Slot.text, slot + SLOT_BYTES);
    const { written } = this.#encoder.encodeInto(`${op}\n${backend}\n${group}`, room);
    this.#view.setInt32(slot + Slot.seq, -1, true);
    this.#view.setFloat64(slot + Slot.began, now(), true);
    this.#view.setUint32(slot + Slot.length, written, true);
    return slot;
  }

  /** Records the sequence number, which is known once the backend has accepted the op. */
  number(slot: number, seq: number): void {
    this.#view.setInt32(slot + Slot.seq, seq, true);
  }

  end(slot: number | undefined): void {
    this.#count(Header.ended);
    if (slot === undefined) return;
    this.#bytes.copyWithin(LAST_AT, slot, slot + SLOT_BYTES);
    this.#view.setFloat64(Header.lastEndedAt, now(), true);
    this.#view.setUint32(slot + Slot.length, 0, true);
    this.#free.push(slot);
  }

  fired(fault: number): void {
    this.#bytes[FAULTS_AT + fault] = 1;
  }

  #count(at: number): void {
    this.#view.setUint32(at, this.#view.getUint32(at, true) + 1, true);
  }
}

/** Reads the log of a rank that has ended. */
export function readOpLog(log: string | SharedArrayBuffer): LoggedOps {
  const bytes = Uint8Array.from(typeof log === "string" ? readFileSync(log) : new Uint8Array(log));
  const view = new DataView(bytes.buffer);
  const slots = Array.from({ length: SLOTS }, (_, i) => readSlot(view, SLOTS_AT + i * SLOT_BYTES));
  const last = readSlot(view, LAST_AT);
  return {
    inFlight: slots.filter((each) => each !== undefined).sort((a, b) => a.began - b.began),
    begun: view.getUint32(Header.begun, true),
    ended: view.getUint32(Header.ended, true),
    last: last && { ...last, at: view.getFloat64(Header.lastEndedAt, true) },
    fired: Array.from(bytes.subarray(FAULTS_AT, FAULTS_AT + MAX_FAULTS), (byte) => byte === 1),
  };
}

function readSlot(view: DataView, slot: number): LoggedOp | undefined {
  const length = view.getUint32(slot + Slot.length, true);
  if (length === 0) return undefined;
  const text = new TextDecoder().decode(new Uint8Array(view.buffer, slot + Slot.text, length));
  const [op = "", backend = "", group = ""] = text.split("\n");
  return {
    op,
    backend,
    group,
    seq: view.getInt32(slot + Slot.seq, true),
    began: view.getFloat64(slot + Slot.began, true),
  };
}

function now(): number {
  return performance.timeOrigin + performance.now();
}
