import { ptr } from "bun:ffi";
import { InvalidArgumentError } from "../errors/index.ts";
import { bufferOf, type TensorView } from "../tensor/index.ts";
import { OpLayout } from "./abi.generated.ts";

const BUFFER_BYTES = 16;
const TWO_32 = 2 ** 32;

/** What is written into an op of the shim ABI. */
export interface OpFields {
  readonly opcode: number;
  /** 0 for ops without tensors. */
  readonly dtype: number;
  readonly reduceOp: number;
  /** Root, source or destination: rank in the group; -1 for none. */
  readonly peer: number;
  readonly tag: number;
  /** Bits of {@link OpFlag}. */
  readonly flags: number;
  readonly timeoutMs: number;
  readonly premulFactor: number;
}

/**
 * The one `c10d_op` that every submission fills in again, with its buffer tables. All of it is made on `ArrayBuffer`s of
 * its own, whose addresses never change (a TypedArray made by length may still move).
 */
export class OpRecord {
  readonly bytes = new ArrayBuffer(OpLayout.SIZE);
  readonly #words = new Uint32Array(this.bytes);
  readonly #signed = new Int32Array(this.bytes);
  readonly #doubles = new Float64Array(this.bytes);
  readonly #inputs = new BufferTable();
  readonly #outputs = new BufferTable();
  readonly #inputSplits = new SplitTable();
  readonly #outputSplits = new SplitTable();

  constructor() {
    this.#words[OpLayout.size / 4] = OpLayout.SIZE;
  }

  /** Writes an op whose buffers are given as single views (their addresses come with the call) or not at all. */
  fill(op: OpFields, input: TensorView | undefined, output: TensorView | undefined): void {
    this.#scalars(op);
    this.#table(OpLayout.inputs, OpLayout.inputCount, this.#inputs, input === undefined ? 0 : 1);
    if (input !== undefined) this.#inputs.bytesOnly(input.byteLength);
    this.#table(OpLayout.outputs, OpLayout.outputCount, this.#outputs, output === undefined ? 0 : 1);
    if (output !== undefined) this.#outputs.bytesOnly(output.byteLength);
  }

  /** Writes an op with lists of buffers. */
  fillLists(op: OpFields, inputs: readonly TensorView[], outputs: readonly TensorView[]): void {
    this.#scalars(op);
    this.#inputs.fill(inputs);
    this.#table(OpLayout.inputs, OpLayout.inputCount, this.#inputs, inputs.length);
    this.#outputs.fill(outputs);
    this.#table(OpLayout.outputs, OpLayout.outputCount, this.#outputs, outputs.length);
  }

  /** Adds split counts, in elements, to what was filled in last; they hold for that op only. */
  split(inputSplits: readonly number[], outputSplits: readonly number[]): void {
    this.#splits(OpLayout.inputSplits, OpLayout.inputSplitCount, this.#inputSplits, inputSplits);
    this.#splits(OpLayout.outputSplits, OpLayout.outputSplitCount, this.#outputSplits, outputSplits);
  }

  #splits(addressField: number, countField: number, table: SplitTable, splits: readonly number[]): void {
    table.fill(splits);
    writeAddress(this.#words, addressField / 4, splits.length === 0 ? 0 : table.address);
    this.#words[countField / 4] = splits.length;
  }

  #scalars(op: OpFields): void {
    const words = this.#words;
    words[OpLayout.opcode / 4] = op.opcode;
    words[OpLayout.dtype / 4] = op.dtype;
    words[OpLayout.reduceOp / 4] = op.reduceOp;
    this.#signed[OpLayout.peer / 4] = op.peer;
    words[OpLayout.tag / 4] = op.tag;
    words[OpLayout.flags / 4] = op.flags;
    this.#doubles[OpLayout.timeoutMs / 8] = op.timeoutMs;
    this.#doubles[OpLayout.premulFactor / 8] = op.premulFactor;
    words[OpLayout.inputSplitCount / 4] = 0;
    words[OpLayout.outputSplitCount / 4] = 0;
  }

  #table(addressField: number, countField: number, table: BufferTable, count: number): void {
    writeAddress(this.#words, addressField / 4, count === 0 ? 0 : table.address);
    this.#words[countField / 4] = count;
  }
}

/** A growing array of `c10d_buffer`. */
class BufferTable {
  #words = new Uint32Array(new ArrayBuffer(8 * BUFFER_BYTES));
  address: number = ptr(this.#words);

  bytesOnly(bytes: number): void {
    this.#entry(0, 0, bytes);
  }

  fill(views: readonly TensorView[]): void {
    if (views.length * 4 > this.#words.length) {
      this.#words = new Uint32Array(new ArrayBuffer(views.length * BUFFER_BYTES));
      this.address = ptr(this.#words);
    }
    views.forEach((view, i) => {
      this.#entry(i, addressOf(view), view.byteLength);
    });
  }

  #entry(i: number, address: number, bytes: number): void {
    writeAddress(this.#words, i * 4, address);
    writeAddress(this.#words, i * 4 + 2, bytes);
  }
}

/** A growing array of `uint64_t`. */
class SplitTable {
  #words = new Uint32Array(new ArrayBuffer(8 * 8));
  address: number = ptr(this.#words);

  fill(splits: readonly number[]): void {
    if (splits.length * 2 > this.#words.length) {
      this.#words = new Uint32Array(new ArrayBuffer(splits.length * 8));
      this.address = ptr(this.#words);
    }
    splits.forEach((split, i) => {
      writeAddress(this.#words, i * 2, split);
    });
  }
}

function writeAddress(words: Uint32Array, at: number, value: number): void {
  words[at] = value % TWO_32;
  words[at + 1] = Math.floor(value / TWO_32);
}

/** Address of a tensor's memory; 0 for an empty one. */
function addressOf(view: TensorView): number {
  if (view.data === undefined) return view.ptr;
  if (view.byteLength === 0) return 0;
  // Touching `buffer` makes the memory stay where it is.
  void bufferOf(view.data);
  const address: unknown = ptr(view.data);
  if (typeof address !== "number") {
    throw new InvalidArgumentError(`tensor has no address: ${String(address)}`, { code: "DETACHED_BUFFER" });
  }
  return address;
}
