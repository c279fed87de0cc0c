import {
  type CallTerms,
  isOneTensor,
  NO_TENSORS,
  type OpCall,
  type Operands,
  type OpName,
  type OpRow,
  ofRank,
  opCall,
  opTable,
  partOf,
  type ReduceOp,
  requireAlike,
  requireDisjoint,
  requireFlag,
  requireLengthAt,
  requireLengths,
  requireOptions,
  requirePerRank,
  requireReduceOp,
  requireSplits,
  requireTag,
  requireTensor,
  requireTensors,
  requireTimeout,
  requireTimes,
  type Side,
  whole,
} from "../collectives/index.ts";
import { InvalidArgumentError, type Timeout } from "../errors/index.ts";
import type { Device, TensorLike, TensorView } from "../tensor/index.ts";
import { requireCallOptionNames } from "./option-names.ts";
import type { RankNames } from "./rank-names.ts";

/** All options of all ops; which of them an op takes is in its row of the op table. */
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
}

/** Tensors of one side of a call as the user gave them: one, a list, or nothing. */
export type Given = TensorLike | readonly TensorLike[] | undefined;

/** One side of a call whose arguments are being read. */
interface Operand {
  readonly side: Side;
  /** As users know it: `input`, `outputs`, `tensor`. */
  readonly name: string;
  readonly views: readonly TensorView[];
}

/** Turns the arguments of an op into an {@link OpCall}, by the op's row in the op table, or says what is wrong with them. */
export class CallReader {
  readonly #ranks: RankNames;
  readonly #timeoutMs: number;
  readonly #device: Device;
  readonly #parts: { readonly [side in Side]: NonNullable<Operands["own"]> };

  /**
   * @param timeoutMs Limit of ops that give none.
   * @param device Where ops without tensors are carried out.
   */
  constructor(ranks: RankNames, timeoutMs: number, device: Device) {
    this.#ranks = ranks;
    this.#timeoutMs = timeoutMs;
    this.#device = device;
    const { rank, size } = ranks;
    const [joined, perRank] = [partOf(rank, size), ofRank(rank)];
    this.#parts = {
      none: whole,
      tensor: whole,
      tensors: whole,
      joined,
      joinedList: joined,
      joinedAtRoot: joined,
      perRank,
      perRankAtRoot: perRank,
    };
  }

  /** @throws InvalidArgumentError for arguments that are wrong. */
  read(op: OpName, options: AnyCallOptions, outputs: Given, inputs: Given): OpCall {
    const row = opTable[op];
    const { api } = row;
    requireOptions(api, options);
    requireCallOptionNames(op, options);
    const reduceOp = row.reduces ? requireReduceOp(api, options.op) : undefined;
    const root = row.root === undefined ? -1 : this.#ranks.namedBy(api, row.root, options);
    const isMessage = row.kind === "message";
    const peer = isMessage ? this.#peer(op, options) : -1;
    const tag = isMessage ? requireTag(api, options.tag) : 0;
    const timeoutMs = requireTimeout(api, options.timeout, this.#timeoutMs);
    if (row.inPlace && row.outputs === "tensor") {
      const view = requireTensor(api, outputs as TensorLike);
      return opCall(op, view.device, NO_TENSORS, [view], timeoutMs, { reduceOp, root });
    }
    const written = this.#operand(row, "outputs", outputs, root);
    const read = this.#operand(row, "inputs", inputs, root);
    this.#requireShapes(row, written, read);
    const terms: CallTerms = {
      reduceOp,
      root,
      peer,
      tag,
      ...(row.splits && this.#splits(api, written, read, options)),
      ...(op === "monitoredBarrier" && { waitAllRanks: requireFlag(api, "waitAllRanks", options.waitAllRanks) }),
    };
    const [first] = read.views.length > 0 ? read.views : written.views;
    return opCall(op, first?.device ?? this.#device, read.views, written.views, timeoutMs, terms);
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
    // What is no tensor, or no list, is refused below.
    if (isOneTensor(side)) return [requireTensor(row.api, given as TensorLike, name)];
    return requireTensors(row.api, given as readonly TensorLike[], name);
  }

  /** Whether this is the root, which alone must give what is there. */
  #isAtRoot({ api, root: option }: OpRow, name: string, given: Given, root: number): boolean {
    const isRoot = this.#ranks.rank === root;
    if ((given !== undefined) === isRoot) return isRoot;
    const role = option === "dst" ? "destination" : "source";
    const rule =
      given === undefined ? `must be given on the ${role} rank` : `must not be given on other than the ${role} rank`;
    throw new InvalidArgumentError(`${api}: ${name} ${rule}`, { op: api, argument: name });
  }

  /** Throws unless the two sides fit each other, and share no memory that is written to. */
  #requireShapes(row: OpRow, written: Operand, read: Operand): void {
    const { api } = row;
    if (row.inPlace) requireDisjoint(api, { argument: written.name, views: written.views }, undefined);
    if (read.side === "none" || written.side === "none") return;
    // The side of which each tensor is one rank's, and the one that is made of such.
    const [block, other] = isBlock(read.side) || !isBlock(written.side) ? [read, written] : [written, read];
    for (const { side, name, views } of [read, written]) {
      if (side === "perRank" || (side === "perRankAtRoot" && views.length > 0)) {
        requirePerRank(api, name, views, this.#ranks.size);
      }
    }
    const isPair = read.side === "tensors" || written.side === "tensors";
    if (isPair && block.views.length !== other.views.length) {
      throw new InvalidArgumentError(
        `${api}: ${other.name} and ${block.name} must be of one length: ${other.views.length} and ${block.views.length} tensors`,
        { op: api, argument: other.name },
      );
    }
    const [first] = block.views;
    const [partner] = other.views;
    if (first !== undefined && partner !== undefined) {
      requireAlike(api, first, block.name, partner, other.name);
      this.#requireLengths(row, block, other, first);
    }
    const own = (side: Side) => (row.inputs === "perRank" && row.outputs === "perRank" ? whole : this.#parts[side]);
    const inPairs = isPair || row.inputs === row.outputs;
    requireDisjoint(
      api,
      { argument: written.name, views: written.views, own: own(written.side), ...(inPairs && { inPairs }) },
      { argument: read.name, views: read.views, own: own(read.side) },
    );
  }

  #requireLengths({ api, unequal }: OpRow, block: Operand, other: Operand, first: TensorView): void {
    const { rank, size } = this.#ranks;
    switch (other.side) {
      case "joined":
      case "joinedAtRoot":
      case "joinedList":
        for (const [i, large] of other.views.entries()) {
          const small = block.views[i] ?? first;
          requireTimes(api, large, nameAt(other, i), small, nameAt(block, i), size);
        }
        return;
      case "perRank":
      case "perRankAtRoot": {
        if (!unequal) {
          requireLengths(api, other.name, other.views, first, block.name);
          return;
        }
        const isList = block.side === "perRank";
        const like = isList ? (block.views[rank] ?? first) : first;
        requireLengthAt(api, other.name, other.views, rank, like, isList ? `${block.name}[${rank}]` : block.name);
      }
    }
  }

  /** Split sizes in elements; none where all parts are equal. */
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

function isBlock(side: Side): boolean {
  return side === "tensor" || side === "tensors";
}

function isAtRoot(side: Side): boolean {
  return side === "joinedAtRoot" || side === "perRankAtRoot";
}

function nameAt({ side, name }: Operand, i: number): string {
  return isOneTensor(side) ? name : `${name}[${i}]`;
}
