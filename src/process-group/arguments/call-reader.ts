import {
  type CallTerms,
  isOneTensor,
  NO_TENSORS,
  type OpCall,
  type OpName,
  type OpRow,
  opCall,
  opTable,
  type ReduceOp,
  requireFlag,
  requireOptions,
  requireReduceOp,
  requireSplits,
  requireStream,
  requireTag,
  requireTensor,
  requireTensors,
  requireTimeout,
  type Side,
} from "../../collectives/index.ts";
import { type CallSite, describe, InvalidArgumentError } from "../../errors/index.ts";
import {
  CPU,
  currentStreamOf,
  type Device,
  type Stream,
  type TensorLike,
  type TensorView,
} from "../../tensor/index.ts";
import type { Timeout } from "../../time/index.ts";
import { CallShapes, isAtRoot, type Operand } from "./call-shapes.ts";
import { requireCallOptionNames } from "./option-names.ts";
import type { RankNames } from "./rank-names.ts";

/** All options of all ops; the op table says which of them an op takes. */
export interface AnyCallOptions {
  readonly timeout?: Timeout | undefined;
  readonly op?: ReduceOp | undefined;
  readonly src?: number | undefined;
  readonly groupSrc?: number | undefined;
  readonly dst?: number | undefined;
  readonly groupDst?: number | undefined;
  readonly tag?: number | undefined;
  readonly inputSplits?: readonly number[] | undefined;
  readonly outputSplits?: readonly number[] | undefined;
  readonly waitAllRanks?: boolean | undefined;
  readonly deviceIds?: readonly number[] | undefined;
  readonly stream?: Stream | undefined;
}

/** Tensors of one side of a call as the user passed them: one, a list, or nothing. */
export type Given = TensorLike | readonly TensorLike[] | undefined;

/** Checks the arguments of an op against its row in the op table and turns them into an {@link OpCall}. */
export class CallReader {
  readonly #ranks: RankNames;
  readonly #timeoutMs: number;
  readonly #device: Device;
  readonly #shapes: CallShapes;

  /**
   * @param timeoutMs Default time-out of ops.
   * @param device Device of ops without tensors.
   */
  constructor(ranks: RankNames, timeoutMs: number, device: Device) {
    this.#ranks = ranks;
    this.#timeoutMs = timeoutMs;
    this.#device = device;
    this.#shapes = new CallShapes(ranks.rank, ranks.size);
  }

  /** @throws InvalidArgumentError for invalid arguments. */
  read(op: OpName, options: AnyCallOptions, outputs: Given, inputs: Given, callSite?: CallSite): OpCall {
    const row = opTable[op];
    const { api } = row;
    requireOptions(api, options);
    requireCallOptionNames(op, options);
    const reduceOp = row.reduces ? requireReduceOp(api, options.op) : undefined;
    const root = row.root === undefined ? -1 : this.#ranks.rankFrom(api, row.root, options);
    const isMessage = row.kind === "message";
    const peer = isMessage ? this.#peer(op, options) : -1;
    const tag = isMessage ? requireTag(api, options.tag) : 0;
    const timeoutMs = requireTimeout(api, options.timeout, this.#timeoutMs);
    if (row.inPlace && row.outputs === "tensor") {
      const view = requireTensor(api, outputs as TensorLike);
      const stream = streamOf(api, options, view.device);
      return opCall(op, view.device, NO_TENSORS, [view], timeoutMs, { reduceOp, root, stream, callSite });
    }
    const written = this.#operand(row, "outputs", outputs, root);
    const read = this.#operand(row, "inputs", inputs, root);
    this.#shapes.require(row, written, read);
    const [first] = read.views.length > 0 ? read.views : written.views;
    const device = first?.device ?? this.#deviceNamedBy(api, options);
    const terms: CallTerms = {
      stream: streamOf(api, options, device),
      reduceOp,
      root,
      peer,
      tag,
      callSite,
      ...(row.splits && this.#splits(api, written, read, options)),
      ...(op === "monitoredBarrier" && { waitAllRanks: requireFlag(api, "waitAllRanks", options.waitAllRanks) }),
    };
    return opCall(op, device, read.views, written.views, timeoutMs, terms);
  }

  /** Device of an op without tensors. */
  #deviceNamedBy(api: string, { deviceIds }: AnyCallOptions): Device {
    if (deviceIds === undefined) return this.#device;
    const [index] = Array.isArray(deviceIds) ? deviceIds : [];
    if (Number.isSafeInteger(index) && index >= 0 && deviceIds.length === 1) return { type: "cuda", index };
    throw new InvalidArgumentError(
      `${api}: deviceIds must be a list of one index of a CUDA device, got ${describe(deviceIds)}`,
      { op: api, argument: "deviceIds" },
    );
  }

  #peer(op: OpName, options: AnyCallOptions): number {
    if (op === "send") return this.#ranks.otherNamedBy(op, "dst", options);
    const any = options.src === undefined && options.groupSrc === undefined;
    return any ? -1 : this.#ranks.otherNamedBy(op, "src", options);
  }

  #operand(row: OpRow, which: "inputs" | "outputs", given: Given, root: number): Operand {
    const side = row[which];
    const isList = !isOneTensor(side);
    const isOnly = row.inPlace === true || row.kind === "message";
    const name = `${isOnly ? "tensor" : which.slice(0, -1)}${isList ? "s" : ""}`;
    return { side, name, views: this.#views(row, side, name, given, root) };
  }

  #views(row: OpRow, side: Side, name: string, given: Given, root: number): readonly TensorView[] {
    if (side === "none") return NO_TENSORS;
    if (isAtRoot(side) && !this.#isAtRoot(row, name, given, root)) return NO_TENSORS;
    // What is not a tensor, or not a list, is refused below.
    if (isOneTensor(side)) return [requireTensor(row.api, given as TensorLike, name)];
    return requireTensors(row.api, given as readonly TensorLike[], name);
  }

  /** Whether this is the root, which alone must pass this operand. */
  #isAtRoot({ api, root: option }: OpRow, name: string, given: Given, root: number): boolean {
    const isRoot = this.#ranks.rank === root;
    if ((given !== undefined) === isRoot) return isRoot;
    const role = option === "dst" ? "destination" : "source";
    const rule = given === undefined ? `must be given on the ${role} rank` : `must only be given on the ${role} rank`;
    throw new InvalidArgumentError(`${api}: ${name} ${rule}`, { op: api, argument: name });
  }

  /** Split sizes in elements; omitted if all parts are equal. */
  #splits(api: string, written: Operand, read: Operand, options: AnyCallOptions): CallTerms {
    const [target] = written.views;
    const [source] = read.views;
    if (target === undefined || source === undefined) return {};
    const { rank, size } = this.#ranks;
    const inputSplits = requireSplits(api, "inputSplits", options.inputSplits, source, size);
    const outputSplits = requireSplits(api, "outputSplits", options.outputSplits, target, size);
    if (inputSplits[rank] !== outputSplits[rank]) {
      throw new InvalidArgumentError(
        `${api}: this rank would send itself ${inputSplits[rank]} elements but expects ${outputSplits[rank]}`,
        { op: api, argument: "outputSplits" },
      );
    }
    const equal = options.inputSplits === undefined && options.outputSplits === undefined;
    return equal ? {} : { inputSplits, outputSplits };
  }
}

/** The stream of a call: that of the options, or the current one of its device. */
function streamOf(api: string, { stream }: AnyCallOptions, device: Device): Stream | undefined {
  if (stream === undefined) return device === CPU ? undefined : currentStreamOf(device);
  return requireStream(api, stream, device);
}
