import { isMessage, type OpName, OpType, opTable, opTypeOf, type ReduceOp } from "../collectives/index.ts";
import { type CallSite, type Frame, framesOf, lineOf } from "../errors/index.ts";
import type { DeviceType, DType, TensorView } from "../tensor/index.ts";
import { hasStarted, type LibraryTimes, libraryTimesOf, numberOf } from "../work/index.ts";
import { type GroupRecord, NO_GROUP } from "./group-record.ts";
import type { RecordedCall, RecordedWork } from "./recorded-op.ts";
import type { RecordedTensor, TraceEntry } from "./trace-entry.ts";

/** One tensor of this length, several of these lengths, or none. */
type Lengths = number | readonly number[] | undefined;

/** An entry with what only dumps need. */
export interface RecordedOp extends TraceEntry {
  readonly group: GroupRecord;
  /** Its row in the op table; `undefined` for ops on objects and batches. */
  readonly row: OpName | undefined;
  /** Name of the backend; empty if unknown. */
  readonly backend: string;
  /** Number among the collectives of its group, or the messages of its channel, from 1. */
  readonly number: number;
}

/** What is known of an op whose entry was overwritten. */
export interface DroppedOp {
  id: number;
  op: string;
  seq: number;
  /** Name of its group. */
  group: string;
}

/** A slot of the ring, which later ops overwrite; an op with single tensors allocates nothing. */
export class RecordedSlot {
  id = -1;
  #group: GroupRecord = NO_GROUP;
  #op = "";
  /** Set while the op is pending: its sequence number is known only once its turn has come. */
  #work: RecordedWork | undefined;
  #opType: OpType = OpType.UNKNOWN;
  #seq = -1;
  #number = 0;
  #row: OpName | undefined;
  #device: DeviceType = "cpu";
  #reduceOp: ReduceOp | undefined;
  #peer = -1;
  #root = -1;
  #tag = 0;
  #timeoutMs = 0;
  #inputs: Lengths;
  #outputs: Lengths;
  #inputDType: DType = "uint8";
  #outputDType: DType = "uint8";
  #callSite: CallSite | undefined;
  #startedMs = 0;
  #finishedMs = 0;
  #times: LibraryTimes | undefined;
  #error: string | undefined;

  get hasEnded(): boolean {
    return this.#work === undefined;
  }

  begin(id: number, group: GroupRecord, op: string, work: RecordedWork, startedMs: number): void {
    this.id = id;
    this.#group = group;
    this.#op = op;
    this.#work = work;
    this.#startedMs = startedMs;
    this.#times = undefined;
    this.#error = undefined;
  }

  describe(call: RecordedCall): void {
    const { inputs, outputs, peer, tag } = call;
    this.#row = call.op;
    // The Work of a user's backend need not know the type.
    this.#opType = call.op === undefined ? (this.#work?.opType ?? OpType.UNKNOWN) : opTypeOf(call);
    this.#peer = peer;
    this.#root = call.root;
    this.#tag = tag;
    this.#timeoutMs = call.timeoutMs;
    this.#callSite = call.callSite;
    this.#inputs = lengthsOf(inputs);
    this.#outputs = lengthsOf(outputs);
    if (call.op === undefined) this.#reduceOp = undefined;
    else {
      this.#reduceOp = call.reduceOp;
      this.#device = call.device.type;
    }
    if (inputs[0] !== undefined) this.#inputDType = inputs[0].dtype;
    if (outputs[0] !== undefined) this.#outputDType = outputs[0].dtype;
    this.#number = isMessage(this.#opType)
      ? this.#group.nextMessage(peer, isRecv(this.#opType), tag)
      : this.#group.nextCollective();
  }

  end(finishedMs: number, source: number, error: string | undefined): void {
    const work = this.#work;
    this.#seq = work === undefined ? -1 : numberOf(work);
    this.#times = work === undefined ? undefined : libraryTimesOf(work);
    this.#work = undefined;
    this.#finishedMs = finishedMs;
    this.#error = error;
    if (source < 0 || !isRecv(this.#opType)) return;
    // A message from any rank belongs to the channel of its source once that is known.
    if (this.#peer < 0) this.#number = this.#group.nextMessage(source, true, this.#tag);
    this.#peer = source;
  }

  copyTo(dropped: DroppedOp): void {
    dropped.id = this.id;
    dropped.op = this.#op;
    dropped.seq = this.#work === undefined ? this.#seq : numberOf(this.#work);
    dropped.group = this.#group.name;
  }

  view(): TraceEntry {
    const work = this.#work;
    const isInPlace = this.#row !== undefined && opTable[this.#row].inPlace === true;
    const outputs = tensors(this.#outputs, this.#outputDType);
    const { timeOrigin } = performance;
    const at = (ms: number | undefined) => (ms === undefined ? undefined : timeOrigin + ms);
    const callSite = this.#callSite;
    const { name, description, rank, globalRanks } = this.#group;
    return {
      id: this.id,
      group: { name, description, rank, globalRanks },
      op: this.#op,
      opType: this.#opType,
      seq: work === undefined ? this.#seq : numberOf(work),
      isMessage: isMessage(this.#opType),
      reduceOp: this.#reduceOp,
      peer: this.#peer,
      root: this.#root,
      tag: this.#tag,
      inputs: isInPlace ? outputs : tensors(this.#inputs, this.#inputDType),
      outputs,
      state: work === undefined ? (this.#error === undefined ? "completed" : "failed") : pendingState(work),
      error: this.#error,
      timeoutMs: this.#timeoutMs,
      timeCreated: timeOrigin + this.#startedMs,
      timeStarted: at(this.#times?.startedMs),
      timeFinished: at(work === undefined ? (this.#times?.finishedMs ?? this.#finishedMs) : undefined),
      // Formatting it takes much longer than all the rest.
      get callSite(): string | undefined {
        return callSite && lineOf(callSite);
      },
      get frames(): readonly Frame[] {
        return callSite === undefined ? [] : framesOf(callSite);
      },
    };
  }

  /** For dumps. */
  record(): RecordedOp {
    const backend = this.#group.backends[this.#device] ?? Object.values(this.#group.backends)[0] ?? "";
    const { group, ...descriptors } = Object.getOwnPropertyDescriptors(this.view());
    const own = { group: this.#group, row: this.#row, backend, number: this.#number };
    return Object.defineProperties(own, descriptors) as RecordedOp;
  }
}

const isRecv = (opType: OpType): boolean => opType === OpType.RECV || opType === OpType.RECV_ANY_SOURCE;

const pendingState = (work: RecordedWork) => (hasStarted(work) ? "started" : "scheduled");

/** Only their lengths: views would retain the caller's tensors. */
function lengthsOf(views: readonly TensorView[]): Lengths {
  if (views.length === 0) return undefined;
  return views.length === 1 ? views[0]?.length : views.map(({ length }) => length);
}

function tensors(lengths: Lengths, dtype: DType): readonly RecordedTensor[] {
  if (lengths === undefined) return [];
  return (typeof lengths === "number" ? [lengths] : lengths).map((length) => ({ dtype, length }));
}
