import {
  isMessage,
  type OpName,
  OpType,
  opTable,
  opTypeOf,
  requireFlag,
  requireOptions,
} from "../collectives/index.ts";
import { brand, describe, InvalidArgumentError } from "../errors/index.ts";
import type { DType, TensorView } from "../tensor/index.ts";
import { numberOf } from "../work/index.ts";
import type { RecordedCall, RecordedWork } from "./recorded-op.ts";
import type { RecordedGroup, RecordedTensor, TraceEntry } from "./trace-entry.ts";

/** Options of a {@link FlightRecorder}. */
export interface FlightRecorderOptions {
  /** Number of entries to keep, the newest ones; 0 keeps none. 2000 by default. */
  readonly capacity?: number;
}

/** Default number of entries. c10d: `TORCH_FR_BUFFER_SIZE`. */
const DEFAULT_CAPACITY = 2000;

/**
 * Records the last ops of all groups of one container: an entry for each call of an op, with its sequence number,
 * tensors and state. It does not retain tensors: for an op that has ended, only numbers and strings remain.
 *
 * Each container has its own, under `FLIGHT_RECORDER`; `C10D_TRACE_BUFFER_SIZE` (or `TORCH_FR_BUFFER_SIZE`) sets how
 * many entries it keeps, 0 turns it off. A call with invalid arguments has no entry.
 *
 * ```ts
 * for (const { op, seq, state } of container.resolve(FLIGHT_RECORDER).entries({ onlyActive: true })) console.log(op,
 * seq, state);
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
  readonly #ring: Entry[] = [];
  #count = 0;

  /** @throws InvalidArgumentError when the capacity is not an integer of at least 0, and for other options. */
  constructor(options: FlightRecorderOptions = {}) {
    requireOption("FlightRecorder", options, "capacity");
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
    requireOption("entries", options, "onlyActive");
    const onlyActive = requireFlag("entries", "onlyActive", options.onlyActive);
    const oldest = Math.max(0, this.#count - this.#ring.length);
    const kept = Array.from({ length: this.#count - oldest }, (_, i) => this.#at(oldest + i));
    return kept.flatMap((entry) => (entry === undefined || (onlyActive && entry.hasEnded) ? [] : [entry.view()]));
  }

  /**
   * Records an op of a group that is in flight. For the process group.
   * @param op Name by which the user called it.
   * @param startedMs When it was called, by `performance.now()`.
   * @returns Number of its entry, for {@link end}; -1 if none is kept.
   */
  begin(group: RecordedGroup, op: string, work: RecordedWork, startedMs: number, call: RecordedCall): number {
    if (this.capacity === 0) return -1;
    const number = this.#count++;
    const place = number % this.capacity;
    const known = this.#ring[place];
    const entry = known ?? new Entry();
    if (known === undefined) this.#ring.push(entry);
    entry.begin(number, group, op, work, startedMs);
    entry.describe(call);
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

  /** The entry of this number, unless it was overwritten. */
  #at(number: number): Entry | undefined {
    const entry = this.#ring[number % this.capacity];
    return entry?.id === number ? entry : undefined;
  }
}

/** Throws for a non-object or an unknown option, which would otherwise count as an option left out. */
function requireOption(caller: string, options: object, name: string): void {
  requireOptions(caller, options);
  const other = Object.keys(options).find((each) => each !== name);
  if (other === undefined) return;
  throw new InvalidArgumentError(`${caller}: unknown option ${other} (known is ${name})`, { argument: other });
}

/** One tensor of this length, several of these lengths, or none. */
type Lengths = number | readonly number[] | undefined;

/** A slot of the ring, which later ops overwrite; an op with single tensors allocates nothing. */
class Entry {
  id = -1;
  #group: RecordedGroup | undefined;
  #op = "";
  /** Set while the op is pending: its sequence number is known only once its turn has come. */
  #work: RecordedWork | undefined;
  #opType: OpType = OpType.UNKNOWN;
  #seq = -1;
  #row: OpName | undefined;
  #peer = -1;
  #root = -1;
  #tag = 0;
  #timeoutMs = 0;
  #inputs: Lengths;
  #outputs: Lengths;
  #inputDType: DType = "uint8";
  #outputDType: DType = "uint8";
  #startedMs = 0;
  #finishedMs = 0;
  #error: string | undefined;

  get hasEnded(): boolean {
    return this.#work === undefined;
  }

  begin(id: number, group: RecordedGroup, op: string, work: RecordedWork, startedMs: number): void {
    this.id = id;
    this.#group = group;
    this.#op = op;
    this.#work = work;
    this.#startedMs = startedMs;
    this.#error = undefined;
  }

  describe(call: RecordedCall): void {
    const { inputs, outputs } = call;
    this.#row = call.op;
    // The Work of a user's backend need not know the type.
    this.#opType = call.op === undefined ? (this.#work?.opType ?? OpType.UNKNOWN) : opTypeOf(call);
    this.#peer = call.peer;
    this.#root = call.root;
    this.#tag = call.tag;
    this.#timeoutMs = call.timeoutMs;
    this.#inputs = lengthsOf(inputs);
    this.#outputs = lengthsOf(outputs);
    if (inputs[0] !== undefined) this.#inputDType = inputs[0].dtype;
    if (outputs[0] !== undefined) this.#outputDType = outputs[0].dtype;
  }

  end(finishedMs: number, source: number, error: string | undefined): void {
    this.#seq = this.#work === undefined ? -1 : numberOf(this.#work);
    this.#work = undefined;
    this.#finishedMs = finishedMs;
    this.#error = error;
    if (source >= 0 && isRecv(this.#opType)) this.#peer = source;
  }

  view(): TraceEntry {
    const work = this.#work;
    const isInPlace = this.#row !== undefined && opTable[this.#row].inPlace === true;
    const outputs = tensors(this.#outputs, this.#outputDType);
    const { timeOrigin } = performance;
    return {
      id: this.id,
      group: this.#group ?? NO_GROUP,
      op: this.#op,
      opType: this.#opType,
      seq: work === undefined ? this.#seq : numberOf(work),
      isMessage: isMessage(this.#opType),
      peer: this.#peer,
      root: this.#root,
      tag: this.#tag,
      inputs: isInPlace ? outputs : tensors(this.#inputs, this.#inputDType),
      outputs,
      state: work !== undefined ? "scheduled" : this.#error === undefined ? "completed" : "failed",
      error: this.#error,
      timeoutMs: this.#timeoutMs,
      timeCreated: timeOrigin + this.#startedMs,
      timeFinished: work === undefined ? timeOrigin + this.#finishedMs : undefined,
    };
  }
}

const NO_GROUP: RecordedGroup = { name: "", description: "", rank: 0, globalRanks: [] };

const isRecv = (opType: OpType): boolean => opType === OpType.RECV || opType === OpType.RECV_ANY_SOURCE;

/** Only their lengths: views would retain the caller's tensors. */
function lengthsOf(views: readonly TensorView[]): Lengths {
  if (views.length === 0) return undefined;
  return views.length === 1 ? views[0]?.length : views.map(({ length }) => length);
}

function tensors(lengths: Lengths, dtype: DType): readonly RecordedTensor[] {
  if (lengths === undefined) return [];
  return (typeof lengths === "number" ? [lengths] : lengths).map((length) => ({ dtype, length }));
}
