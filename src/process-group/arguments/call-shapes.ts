import {
  isOneTensor,
  type Operands,
  type OpRow,
  ofRank,
  partOf,
  requireAlike,
  requireDisjoint,
  requireLengthAt,
  requireLengths,
  requirePerRank,
  requireTimes,
  type Side,
  whole,
} from "../../collectives/index.ts";
import { InvalidArgumentError } from "../../errors/index.ts";
import type { TensorView } from "../../tensor/index.ts";

/** One side of a call whose shapes are checked. */
export interface Operand {
  readonly side: Side;
  /** Its name in the API: `input`, `outputs`, `tensor`. */
  readonly name: string;
  readonly views: readonly TensorView[];
}

/** Checks the tensors of a call against its row in the op table, each other, and the group. */
export class CallShapes {
  readonly #rank: number;
  readonly #size: number;
  readonly #parts: { readonly [side in Side]: NonNullable<Operands["own"]> };

  constructor(rank: number, size: number) {
    this.#rank = rank;
    this.#size = size;
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

  /** Throws unless the two sides match and share no memory that is written to. */
  require(row: OpRow, written: Operand, read: Operand): void {
    const { api } = row;
    if (row.inPlace) requireDisjoint(api, { argument: written.name, views: written.views }, undefined);
    if (read.side === "none" || written.side === "none") return;
    // The side where each tensor is one rank's, and the side composed of such tensors.
    const [block, other] = isBlock(read.side) || !isBlock(written.side) ? [read, written] : [written, read];
    for (const { side, name, views } of [read, written]) {
      if (side === "perRank" || (side === "perRankAtRoot" && views.length > 0)) {
        requirePerRank(api, name, views, this.#size);
      }
    }
    const isPair = read.side === "tensors" || written.side === "tensors";
    if (isPair && block.views.length !== other.views.length) {
      throw new InvalidArgumentError(
        `${api}: ${other.name} and ${block.name} must have the same length: ${other.views.length} and ${block.views.length} tensors`,
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
    const [rank, size] = [this.#rank, this.#size];
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
}

function isBlock(side: Side): boolean {
  return side === "tensor" || side === "tensors";
}

/** Whether a side exists on the root only. */
export function isAtRoot(side: Side): boolean {
  return side === "joinedAtRoot" || side === "perRankAtRoot";
}

function nameAt({ side, name }: Operand, i: number): string {
  return isOneTensor(side) ? name : `${name}[${i}]`;
}
