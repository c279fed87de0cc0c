import { ptr } from "bun:ffi";
import { NO_TENSORS, type OpCall, opCall, opTypeOf } from "../collectives/op-call.ts";
import { InvalidArgumentError } from "../errors/index.ts";
import { bufferOf, deviceTypeCodes, dtypes, type TensorView } from "../tensor/index.ts";
import { OpFlag, OpLayout } from "./abi.generated.ts";

const OP_WORDS = OpLayout.SIZE / 4;
const TWO_32 = 2 ** 32;
const NO_SPLITS: readonly number[] = [];

/** The tensors of a call as native code sees them. */
export type OpTensors = Pick<OpCall, "inputs" | "outputs">;

/**
 * The `c10d_op`s of one submission with the tables that they point to, refilled by every submission. All of it lies in
 * explicit `ArrayBuffer`s, whose addresses never change (a TypedArray created by length may still move).
 */
export class OpRecords {
  #bytes = new ArrayBuffer(0);
  #words = new Uint32Array(this.#bytes);
  #signed = new Int32Array(this.#bytes);
  #doubles = new Float64Array(this.#bytes);
  #count = 0;
  /** `c10d_buffer`s: address and size. */
  readonly #buffers = new WideTable(2);
  readonly #splits = new WideTable(1);

  constructor() {
    this.#reserve(1);
  }

  /** The records, one after the other. */
  get bytes(): ArrayBuffer {
    return this.#bytes;
  }

  /** Number of records that hold calls. */
  get count(): number {
    return this.#count;
  }

  /**
   * Writes a call without inputs and with at most one output, whose address is passed with the native call.
   * @param isTimed Whether native code reports how long it took.
   */
  fillInPlace(call: OpCall, isTimed = false): void {
    const output = call.outputs[0];
    this.#count = 1;
    this.#scalars(0, call, isTimed);
    this.#list(0, OpLayout.inputs, OpLayout.inputCount, this.#buffers, 0, 0);
    if (output !== undefined) this.#buffers.set(0, 1, output.byteLength);
    this.#list(0, OpLayout.outputs, OpLayout.outputCount, this.#buffers, 0, call.outputs.length);
  }

  /** Writes a service of the ABI, for memory whose address is passed with the native call. */
  fillService(service: number, { device, byteLength }: TensorView, timeoutMs: number): void {
    this.fillInPlace(opCall("barrier", device, NO_TENSORS, NO_TENSORS, timeoutMs));
    this.#words[OpLayout.opcode / 4] = service;
    this.#buffers.set(0, 1, byteLength);
    this.#list(0, OpLayout.outputs, OpLayout.outputCount, this.#buffers, 0, 1);
  }

  /** Writes calls, with the tensors that `opTensors` has for each. */
  fill(calls: readonly OpCall[], opTensors: readonly OpTensors[], isTimed = false): void {
    let buffers = 0;
    let splits = 0;
    for (const { inputs, outputs, inputSplits = NO_SPLITS, outputSplits = NO_SPLITS } of calls) {
      buffers += inputs.length + outputs.length;
      splits += inputSplits.length + outputSplits.length;
    }
    this.#reserve(calls.length);
    this.#buffers.reserve(buffers);
    this.#splits.reserve(splits);
    this.#count = calls.length;
    let buffer = 0;
    let split = 0;
    for (const [i, call] of calls.entries()) {
      const at = i * OP_WORDS;
      const { inputs, outputs } = opTensors[i] ?? call;
      const { inputSplits = NO_SPLITS, outputSplits = NO_SPLITS } = call;
      this.#scalars(at, call, isTimed);
      this.#list(at, OpLayout.inputs, OpLayout.inputCount, this.#buffers, buffer, inputs.length);
      for (const view of inputs) this.#buffer(buffer++, view);
      this.#list(at, OpLayout.outputs, OpLayout.outputCount, this.#buffers, buffer, outputs.length);
      for (const view of outputs) this.#buffer(buffer++, view);
      this.#list(at, OpLayout.inputSplits, OpLayout.inputSplitCount, this.#splits, split, inputSplits.length);
      for (const elements of inputSplits) this.#splits.set(split++, 0, elements);
      this.#list(at, OpLayout.outputSplits, OpLayout.outputSplitCount, this.#splits, split, outputSplits.length);
      for (const elements of outputSplits) this.#splits.set(split++, 0, elements);
    }
  }

  #reserve(ops: number): void {
    if (ops * OpLayout.SIZE <= this.#bytes.byteLength) return;
    this.#bytes = new ArrayBuffer(ops * OpLayout.SIZE);
    this.#words = new Uint32Array(this.#bytes);
    this.#signed = new Int32Array(this.#bytes);
    this.#doubles = new Float64Array(this.#bytes);
    for (let i = 0; i < ops; i++) this.#words[i * OP_WORDS + OpLayout.size / 4] = OpLayout.SIZE;
  }

  #scalars(at: number, call: OpCall, isTimed: boolean): void {
    const words = this.#words;
    const { root, reduceOp, device, stream } = call;
    words[at + OpLayout.opcode / 4] = opTypeOf(call);
    words[at + OpLayout.dtype / 4] = dtypeCodeOf(call);
    words[at + OpLayout.reduceOp / 4] = reduceOp === undefined ? 0 : reduceOp.code;
    this.#signed[at + OpLayout.peer / 4] = root >= 0 ? root : call.peer;
    words[at + OpLayout.tag / 4] = call.tag;
    words[at + OpLayout.flags / 4] = flagsOf(call) | (isTimed ? OpFlag.TIMES : 0);
    words[at + OpLayout.deviceType / 4] = device.type === "cpu" ? 0 : deviceTypeCodes[device.type];
    words[at + OpLayout.deviceIndex / 4] = device.index;
    words[at + OpLayout.stream / 4] = 0;
    words[at + OpLayout.stream / 4 + 1] = 0;
    if (stream !== undefined) writeWide(words, at + OpLayout.stream / 4, stream.handle);
    this.#doubles[at / 2 + OpLayout.timeoutMs / 8] = call.timeoutMs;
    this.#doubles[at / 2 + OpLayout.premulFactor / 8] = reduceOp === undefined ? 1 : reduceOp.factor;
    words[at + OpLayout.inputSplitCount / 4] = 0;
    words[at + OpLayout.outputSplitCount / 4] = 0;
  }

  #list(at: number, addressField: number, countField: number, table: WideTable, first: number, count: number): void {
    writeWide(this.#words, at + addressField / 4, count === 0 ? 0 : table.addressOf(first));
    this.#words[at + countField / 4] = count;
  }

  #buffer(i: number, view: TensorView): void {
    this.#buffers.set(i, 0, addressOf(view));
    this.#buffers.set(i, 1, view.byteLength);
  }
}

/** A growing array of structs of one or two `uint64_t`. */
class WideTable {
  readonly #fields: number;
  #words: Uint32Array;
  #address: number;

  constructor(fields: number) {
    this.#fields = fields;
    this.#words = new Uint32Array(new ArrayBuffer(8 * fields * 8));
    this.#address = ptr(this.#words);
  }

  /** Makes room. What was written before may be lost, and addresses may change. */
  reserve(rows: number): void {
    if (rows * this.#fields * 2 <= this.#words.length) return;
    this.#words = new Uint32Array(new ArrayBuffer(rows * this.#fields * 8));
    this.#address = ptr(this.#words);
  }

  addressOf(row: number): number {
    return this.#address + row * this.#fields * 8;
  }

  set(row: number, field: number, value: number): void {
    writeWide(this.#words, (row * this.#fields + field) * 2, value);
  }
}

/** 0 for ops without tensors. All tensors have one dtype, except the indices before the values of sparse tensors. */
function dtypeCodeOf({ inputs, outputs }: OpCall): number {
  const last = outputs[outputs.length - 1] ?? inputs[inputs.length - 1];
  return last === undefined ? 0 : dtypes[last.dtype].code;
}

/** On a device with streams, a call without a stream uses the default one, whose number is 0. */
function flagsOf({ op, waitAllRanks, device, stream }: OpCall): number {
  const given = stream === undefined && device.type === "cpu" ? 0 : OpFlag.STREAM;
  if (op !== "monitoredBarrier") return given;
  return given | OpFlag.MONITORED | (waitAllRanks ? OpFlag.WAIT_ALL_RANKS : 0);
}

/** Writes a `uint64_t`. Each word truncates what is stored: the first to the lower half, the second to an integer. */
function writeWide(words: Uint32Array, at: number, value: number): void {
  words[at] = value;
  words[at + 1] = value / TWO_32;
}

/** Address of a tensor's memory; 0 for an empty one. */
function addressOf(view: TensorView): number {
  if (view.data === undefined) return view.ptr;
  if (view.byteLength === 0) return 0;
  // Reading `buffer` fixes the address of the memory.
  void bufferOf(view.data);
  const address: unknown = ptr(view.data);
  if (typeof address !== "number") {
    throw new InvalidArgumentError(`tensor has no address: ${String(address)}`, { code: "DETACHED_BUFFER" });
  }
  return address;
}
