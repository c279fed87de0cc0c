import { requireFlag } from "../collectives/index.ts";
import { type OptionNames, requireOptionNames } from "../collectives/option-names.ts";
import { environmentText } from "../environment/index.ts";
import { brand, describe, InvalidArgumentError } from "../errors/index.ts";
import { type GroupCall, type GroupCallInit, GroupCalls } from "./group-calls.ts";
import { GroupRecord, type GroupRecordInit } from "./group-record.ts";
import type { RecordedCall, RecordedWork } from "./recorded-op.ts";
import { type DroppedOp, RecordedSlot } from "./recorded-slot.ts";
import type { DumpedRecorder, DumpOptions } from "./trace-dump.ts";
import type { TraceEntry } from "./trace-entry.ts";

/** Options of a {@link FlightRecorder}. */
export interface FlightRecorderOptions {
  /** Number of entries to keep, the newest ones; 0 keeps none. 2000 by default. */
  readonly capacity?: number;
}

/** Which dump of a recorder is wanted. */
export interface RecorderDumpOptions extends DumpOptions {
  /** Dumps only the ops of this rank of the world, if several run in this process. */
  readonly globalRank?: number;
}

const dumpOptionNames: OptionNames<RecorderDumpOptions> = {
  includeCollectives: true,
  includeStackTraces: true,
  onlyActive: true,
  globalRank: true,
};

/** Default number of entries. c10d: `TORCH_FR_BUFFER_SIZE`. */
const DEFAULT_CAPACITY = 2000;

/**
 * Records the last ops of all groups of one container: an entry for each call of an op, with its sequence number,
 * tensors, call site and state. It does not retain tensors: for an op that has ended, only numbers and strings remain.
 *
 * Each container has its own, under `FLIGHT_RECORDER`; `C10D_TRACE_BUFFER_SIZE` (or `TORCH_FR_BUFFER_SIZE`) sets how
 * many entries it keeps, 0 turns it off. A call with invalid arguments has no entry. docs/trace.md describes dumps.
 *
 * ```ts
 * const recorder = container.resolve(FLIGHT_RECORDER);
 * for (const { op, seq, state } of recorder.entries({ onlyActive: true })) console.log(op, seq, state);
 * ```
 *
 * c10d: `FlightRecorder`.
 */
export class FlightRecorder {
  static {
    brand(FlightRecorder, "FlightRecorder");
  }

  /** Maximum number of entries kept. */
  readonly capacity: number;
  /** By number of the entry modulo the capacity. Grows up to that, then is overwritten. */
  readonly #ring: RecordedSlot[] = [];
  /** Groups that are open. */
  readonly #groups = new Set<GroupRecord>();
  readonly #groupCalls = new GroupCalls();
  #count = 0;
  /** The op whose entry was overwritten last. */
  #lastDropped: DroppedOp | undefined;

  /** @throws InvalidArgumentError when the capacity is not an integer of at least 0, and for other options. */
  constructor(options: FlightRecorderOptions = {}) {
    requireOptionNames<FlightRecorderOptions>("FlightRecorder", options, { capacity: true });
    const { capacity = DEFAULT_CAPACITY } = options;
    if (!Number.isSafeInteger(capacity) || capacity < 0) {
      throw new InvalidArgumentError(
        `FlightRecorder: capacity must be an integer of at least 0, got ${describe(capacity)}`,
        {
          argument: "capacity",
        },
      );
    }
    this.capacity = capacity;
  }

  /** Number of ops recorded so far, including those no longer kept. */
  get recorded(): number {
    return this.#count;
  }

  /** The entries, oldest first; with `onlyActive`, only those of ops that have not ended. */
  entries(options: { readonly onlyActive?: boolean } = {}): readonly TraceEntry[] {
    requireOptionNames<{ onlyActive?: boolean }>("entries", options, { onlyActive: true });
    const onlyActive = requireFlag("entries", "onlyActive", options.onlyActive);
    return this.#slots(onlyActive).map((slot) => slot.view());
  }

  /**
   * The entries and the groups in the form of PyTorch's JSON dumps (version 2.10), which `JSON.stringify` writes and
   * `c10d trace` reads. Ops that have no number yet, since they wait behind an op of several steps, are left out, and so
   * are those of an earlier world of this process.
   *
   * c10d: `_dump_fr_trace_json`.
   */
  dump(options: RecorderDumpOptions = {}): object {
    return dumping().traceDump(this.#dumped(options), options, "json");
  }

  /** The same as a pickle, which PyTorch's `torchfrtrace` reads. c10d: `_dump_fr_trace`. */
  dumpPickle(options: RecorderDumpOptions = {}): Uint8Array<ArrayBuffer> {
    return dumping().pickledDump(this.#dumped(options), options);
  }

  /**
   * Writes dumps to the files that `C10D_TRACE_DIR` and `TORCH_FR_DUMP_TEMP_FILE` name, if they are set. For the
   * process group, when it has failed, and for a rank that is going to be ended. The dump says so, since ops that are
   * in flight in it are not going to complete.
   * @returns Paths of the files.
   * @throws Error when they cannot be written.
   */
  writeFiles(globalRank: number): readonly string[] {
    if (!this.hasFiles) return [];
    const [folder, prefix] = [environmentText("C10D_TRACE_DIR"), dumpPrefix()];
    const dumped = this.#dumped({ globalRank });
    return dumping().writeDumps({ ...dumped, isFailure: true }, { folder, prefix, globalRank });
  }

  /** Whether {@link writeFiles} writes anything: the environment names a file, and ops are recorded. */
  get hasFiles(): boolean {
    return this.capacity > 0 && (environmentText("C10D_TRACE_DIR") ?? dumpPrefix()) !== undefined;
  }

  #dumped(options: RecorderDumpOptions): DumpedRecorder {
    requireOptionNames("dump", options, dumpOptionNames);
    const { globalRank } = options;
    for (const name of ["includeCollectives", "includeStackTraces", "onlyActive"] as const) {
      requireFlag("dump", name, options[name]);
    }
    const isRank = (group: GroupRecord) => globalRank === undefined || group.globalRanks[group.rank] === globalRank;
    const groups = [...this.#groups].filter(isRank);
    const ops = this.#slots(options.onlyActive === true)
      .map((slot) => slot.record())
      .filter(({ group }) => isRank(group));
    // Groups of an earlier world have the same names and numbers.
    const newest = [...ops.map(({ group }) => group), ...groups].findLast(({ world }) => world !== undefined)?.world;
    const isCurrent = ({ world }: GroupRecord) => world === undefined || world === newest;
    return {
      groupCalls: this.#groupCalls.of(globalRank, newest),
      ops: ops.filter(({ group }) => isCurrent(group)),
      groups: groups.filter(isCurrent),
      world: newest,
      recorded: this.#count,
      lastDropped: this.#lastDropped,
    };
  }

  #slots(onlyActive: boolean): readonly RecordedSlot[] {
    const oldest = Math.max(0, this.#count - this.#ring.length);
    const kept = Array.from({ length: this.#count - oldest }, (_, i) => this.#at(oldest + i));
    return kept.filter((slot): slot is RecordedSlot => slot !== undefined && !(onlyActive && slot.hasEnded));
  }

  /** Records that a group has been made; {@link begin} takes what this returns. For the process group. */
  addGroup(init: GroupRecordInit): GroupRecord {
    const group = new GroupRecord(init);
    this.#groups.add(group);
    return group;
  }

  /** Records that a group has been closed. Its ops are kept. For the process group. */
  removeGroup(group: GroupRecord): void {
    this.#groups.delete(group);
  }

  /** Records a call that makes or closes a group, until its `end()`. For the process group. */
  beginGroupCall(init: GroupCallInit): GroupCall {
    return this.#groupCalls.begin(init, this.capacity > 0);
  }

  /**
   * Records an op of a group that is in flight. For the process group.
   * @param op Name by which the user called it.
   * @param startedMs When it was called, by `performance.now()`.
   * @returns Number of its entry, for {@link end}; -1 if none is kept.
   */
  begin(group: GroupRecord, op: string, work: RecordedWork, startedMs: number, call: RecordedCall): number {
    if (this.capacity === 0) return -1;
    const number = this.#count++;
    const place = number % this.capacity;
    const known = this.#ring[place];
    const slot = known ?? new RecordedSlot();
    if (known === undefined) this.#ring.push(slot);
    else this.#noteDropped(slot);
    slot.begin(number, group, op, work, startedMs);
    slot.describe(call);
    return number;
  }

  /**
   * Records how an op ended. For the process group.
   * @param number What {@link begin} returned.
   * @param finishedMs When it ended, by `performance.now()`.
   * @param source Rank in the group that a message came from, else -1.
   * @param error Message of its error, if it failed.
   */
  end(number: number, finishedMs: number, source: number, error: string | undefined): void {
    if (number >= 0) this.#at(number)?.end(finishedMs, source, error);
  }

  #noteDropped(slot: RecordedSlot): void {
    this.#lastDropped ??= { id: -1, op: "", seq: -1, group: "" };
    slot.copyTo(this.#lastDropped);
  }

  /** The entry of this number, unless it was overwritten. */
  #at(number: number): RecordedSlot | undefined {
    const slot = this.#ring[number % this.capacity];
    return slot?.id === number ? slot : undefined;
  }
}

/** Loaded for the first dump: most processes never write one. */
function dumping(): typeof import("./trace-dump.ts") {
  return require("./trace-dump.ts");
}

/** What the paths of pickled dumps begin with; PyTorch has two names for it. */
function dumpPrefix(): string | undefined {
  return environmentText("TORCH_FR_DUMP_TEMP_FILE") ?? environmentText("TORCH_NCCL_DEBUG_INFO_TEMP_FILE");
}
