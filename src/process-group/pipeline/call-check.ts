import {
  isOneTensor,
  type OpCall,
  type OpName,
  type OpRow,
  opTable,
  ReduceOp,
  requireTag,
  type Side,
} from "../../collectives/index.ts";
import { DistError, describe, describeNumber, InvalidArgumentError } from "../../errors/index.ts";
import {
  ANY_INDEX,
  type Device,
  dtypeOfArray,
  dtypes,
  isDetached,
  isDType,
  isWhole,
  type TensorStorage,
  type TensorView,
} from "../../tensor/index.ts";
import { CallShapes, isAtRoot } from "../arguments/call-shapes.ts";

/** The rank, group size and device whose calls are checked. */
export interface CallCheckHost {
  readonly rank: number;
  readonly size: number;
  readonly device: Device;
}

/**
 * Checks calls that middleware made or changed, as the process group checks those of users: what reaches native code
 * must conform to the op table, and its views must lie within existing memory. Calls of the process group are not
 * checked again.
 */
export class CallCheck {
  readonly #host: CallCheckHost;
  readonly #shapes: CallShapes;

  constructor(host: CallCheckHost) {
    this.#host = host;
    this.#shapes = new CallShapes(host.rank, host.size);
  }

  /** @throws InvalidArgumentError (`INVALID_CALL`) naming the middleware and what is wrong. */
  require(call: OpCall, middleware: string): void {
    const fault = (argument: string, text: string, cause?: DistError) =>
      refusal(call, middleware, argument, text, cause);
    if (typeof call !== "object" || call === null) throw fault("call", `is not a call, got ${describe(call)}`);
    if (!isOpName(call.op)) throw fault("op", `is not in the op table, got ${describe(call.op)}`);
    const row = opTable[call.op];
    if (row.kind === "turn") return;
    for (const side of ["inputs", "outputs"] as const) {
      const views: unknown = call[side];
      if (!Array.isArray(views)) throw fault(side, `is not a list of views, got ${describe(views)}`);
      for (let i = 0; i < views.length; i++) {
        if (isGone(views[i])) throw goneMemory(call, `${side}[${i}]`);
        const wrong = viewFault(views[i]) ?? this.#placeFault(views[i]);
        if (wrong !== undefined) throw fault(`${side}[${i}]`, wrong);
      }
    }
    const wrong = this.#termsFault(call, row);
    if (wrong !== undefined) throw fault(...wrong);
    this.#requireShapes(call, row, fault);
  }

  /** What is wrong with a view on another device, whose memory this backend may be unable to reach. */
  #placeFault({ device }: TensorView): string | undefined {
    const { type, index } = this.#host.device;
    if (device?.type === type && (device.index === index || index === ANY_INDEX)) return undefined;
    return `is not on ${type}:${index}, the device of this backend`;
  }

  /** The first invalid field other than the tensors, and what is wrong with it. */
  #termsFault(call: OpCall, row: OpRow): readonly [field: string, fault: string] | undefined {
    const { op, reduceOp, root, peer, tag, batched, waitAllRanks, continuation, timeoutMs, stream } = call;
    const { rank, size } = this.#host;
    const isRank = (value: unknown) => Number.isInteger(value) && Number(value) >= 0 && Number(value) < size;
    if (row.reduces && !(reduceOp instanceof ReduceOp)) {
      return ["reduceOp", `is not one of ReduceOp's constants, got ${describe(reduceOp)}`];
    }
    if (row.root !== undefined && !isRank(root)) {
      return ["root", `is not a rank of the group of ${size}, got ${describeNumber(root)}`];
    }
    if (row.kind === "message") {
      const isAny = op === "recv" && peer === -1;
      if (!isAny && (!isRank(peer) || peer === rank)) {
        return ["peer", `is not another rank of the group of ${size}, got ${describeNumber(peer)}`];
      }
      if (!isTag(tag)) return ["tag", `is not a tag, got ${describeNumber(tag)}`];
    }
    if (typeof batched !== "boolean") return ["batched", `is not true or false, got ${describe(batched)}`];
    if (typeof waitAllRanks !== "boolean")
      return ["waitAllRanks", `is not true or false, got ${describe(waitAllRanks)}`];
    if (typeof continuation !== "boolean")
      return ["continuation", `is not true or false, got ${describe(continuation)}`];
    const isLimit = typeof timeoutMs === "number" && timeoutMs >= 0 && (timeoutMs > 0 || op === "monitoredBarrier");
    if (!isLimit) return ["timeoutMs", `is not a time-out in milliseconds, got ${describeNumber(timeoutMs)}`];
    if (stream !== undefined && !(Number.isSafeInteger(stream?.handle) && stream.handle >= 0))
      return ["stream", `is not a stream, got ${describe(stream)}`];
    return row.splits ? this.#splitsFault(call, row) : undefined;
  }

  #splitsFault(call: OpCall, row: OpRow): readonly [field: string, fault: string] | undefined {
    const { inputSplits, outputSplits, inputs, outputs } = call;
    if ((inputSplits === undefined) !== (outputSplits === undefined)) {
      const missing = inputSplits === undefined ? "inputSplits" : "outputSplits";
      return [missing, "is missing, although the splits of the other side are given"];
    }
    // For a list of pairs, splits count blocks; for one tensor, elements.
    const [input, output] = row.inputs === "tensor" ? [inputs[0]?.length, outputs[0]?.length] : [];
    const { rank, size } = this.#host;
    if (inputSplits === undefined || outputSplits === undefined) {
      if (input === output && (input ?? 0) % size === 0) return undefined;
      return ["inputSplits", `is missing, and ${input} and ${output} elements are not equal parts for ${size} ranks`];
    }
    const fault = splitsFault(inputSplits, size, input);
    if (fault !== undefined) return ["inputSplits", fault];
    const outputFault = splitsFault(outputSplits, size, output);
    if (outputFault !== undefined) return ["outputSplits", outputFault];
    const [sent, expected] = [inputSplits[rank], outputSplits[rank]];
    if (row.inputs !== "tensor" || sent === expected) return undefined;
    return ["outputSplits", `expects ${expected} from this rank itself, which sends itself ${sent}`];
  }

  #requireShapes(
    call: OpCall,
    row: OpRow,
    fault: (argument: string, text: string, cause?: DistError) => DistError,
  ): void {
    for (const name of ["inputs", "outputs"] as const) {
      const side = row[name];
      const { length } = call[name];
      const count = this.#countOf(side, call.root) ?? Math.max(1, length);
      if (length !== count) throw fault(name, `has ${length} tensors, the op takes ${count}`);
    }
    const other = dtypeFault(call, row);
    if (other !== undefined) throw fault("dtype", other);
    const operand = (name: "inputs" | "outputs") => ({ side: row[name], name, views: call[name] });
    try {
      this.#shapes.require(row, operand("outputs"), operand("inputs"));
    } catch (error) {
      if (!(error instanceof DistError)) throw error;
      throw fault(error.details.argument ?? "call", `does not fit (${error.message})`, error);
    }
  }

  /** Number of tensors on a side; `undefined` for any positive number. */
  #countOf(side: Side, root: number): number | undefined {
    if (side === "none" || (isAtRoot(side) && this.#host.rank !== root)) return 0;
    if (isOneTensor(side)) return 1;
    return side === "perRank" || side === "perRankAtRoot" ? this.#host.size : undefined;
  }
}

/** Whether this is a row of the op table, `refused` included. */
export function isOpName(op: unknown): op is OpName {
  return typeof op === "string" && Object.hasOwn(opTable, op);
}

/** What is wrong with split sizes. There is one per rank; for a single tensor they add up to its length. */
function splitsFault(splits: unknown, size: number, length: number | undefined): string | undefined {
  if (!Array.isArray(splits)) return `is not a list of ${size} lengths, got ${describe(splits)}`;
  const areLengths = splits.length === size && splits.every((each) => Number.isSafeInteger(each) && each >= 0);
  if (!areLengths) return `is not a list of ${size} lengths, got [${splits.join(", ")}]`;
  const total = splits.reduce((sum: number, each: number) => sum + each, 0);
  return length === undefined || total === length
    ? undefined
    : `adds up to ${total} elements, its tensor has ${length}`;
}

/** All tensors of an op have one dtype; in an op that takes pairs, each pair has its own. */
function dtypeFault({ inputs, outputs }: OpCall, { inputs: side, unequal }: OpRow): string | undefined {
  const isPaired = unequal === true && side === "tensors";
  const first = (inputs[0] ?? outputs[0])?.dtype;
  const expected = (i: number) => (isPaired ? inputs[i]?.dtype : first);
  for (const list of isPaired ? [outputs] : [inputs, outputs]) {
    for (const [i, { dtype }] of list.entries()) {
      if (dtype !== expected(i)) return `is ${expected(i)} in one tensor and ${dtype} in another`;
    }
  }
  return undefined;
}

/** Whether the memory of a view was detached. */
function isGone(view: TensorView | undefined): boolean {
  return dtypeOfArray(view?.data) !== undefined && isDetached(view?.data as TensorStorage);
}

function goneMemory(call: OpCall, argument: string): InvalidArgumentError {
  return new InvalidArgumentError(
    `${call.op}: ${argument}: a buffer was detached or resized before the op could start`,
    {
      code: "DETACHED_BUFFER",
      op: call.op,
      argument,
    },
  );
}

function isTag(tag: unknown): boolean {
  try {
    requireTag("", (tag ?? Number.NaN) as number);
    return true;
  } catch {
    return false;
  }
}

function refusal(
  call: OpCall | undefined,
  middleware: string,
  where: string,
  fault: string,
  cause?: DistError,
): InvalidArgumentError {
  const op = isOpName(call?.op) ? call.op : "op";
  return new InvalidArgumentError(`${op}: middleware "${middleware}" changed the call, and its ${where} ${fault}`, {
    code: "INVALID_CALL",
    op,
    argument: where,
    cause,
  });
}

/** What is wrong with a view in itself, before it is passed to native code. */
export function viewFault(view: TensorView | undefined): string | undefined {
  if (typeof view !== "object" || view === null) return `is not a view, got ${describe(view)}`;
  const { data, ptr, dtype, length, byteLength } = view;
  if (!isDType(dtype)) return `has the unknown dtype ${String(dtype)}`;
  if (!Number.isSafeInteger(byteLength) || byteLength < 0) return `has byteLength ${describeNumber(byteLength)}`;
  if (length * dtypes[dtype].size !== byteLength) {
    return `has ${describeNumber(length)} elements of ${dtype}, which do not make its ${byteLength} bytes`;
  }
  if (data === undefined) {
    if (Number.isSafeInteger(ptr) && ptr >= 0 && (ptr > 0 || byteLength === 0)) return undefined;
    return `has no memory: its data is undefined and its ptr is ${describeNumber(ptr)}`;
  }
  if (dtypeOfArray(data) === undefined) return `has ${describe(data)} as its data, which is not a TypedArray`;
  if (isWhole(data, byteLength)) return undefined;
  return `claims ${byteLength} bytes, more than its memory has (${data.byteLength})`;
}
