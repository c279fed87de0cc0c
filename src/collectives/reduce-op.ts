import { InvalidArgumentError } from "../errors/index.ts";

export type ReduceOpName = "SUM" | "AVG" | "PRODUCT" | "MIN" | "MAX" | "BAND" | "BOR" | "BXOR" | "PREMUL_SUM";

/**
 * How the elements of all ranks become one. Use the constants; `ReduceOp.premulSum(f)` multiplies each rank's
 * elements by `f` before summing.
 *
 * c10d: `ReduceOp` (same numbers as `RedOpType`).
 */
export class ReduceOp {
  static readonly SUM: ReduceOp = new ReduceOp("SUM", 0);
  static readonly AVG: ReduceOp = new ReduceOp("AVG", 1);
  static readonly PRODUCT: ReduceOp = new ReduceOp("PRODUCT", 2);
  static readonly MIN: ReduceOp = new ReduceOp("MIN", 3);
  static readonly MAX: ReduceOp = new ReduceOp("MAX", 4);
  static readonly BAND: ReduceOp = new ReduceOp("BAND", 5);
  static readonly BOR: ReduceOp = new ReduceOp("BOR", 6);
  static readonly BXOR: ReduceOp = new ReduceOp("BXOR", 7);

  /** Sum of the elements after each was multiplied by `factor`. */
  static premulSum(factor: number): ReduceOp {
    if (typeof factor !== "number" || Number.isNaN(factor)) {
      throw new InvalidArgumentError(`premulSum: factor must be a number, got ${String(factor)}`, {
        argument: "factor",
      });
    }
    return new ReduceOp("PREMUL_SUM", 8, factor);
  }

  readonly name: ReduceOpName;
  readonly code: number;
  /** Factor of PREMUL_SUM, else 1. */
  readonly factor: number;

  private constructor(name: ReduceOpName, code: number, factor = 1) {
    this.name = name;
    this.code = code;
    this.factor = factor;
  }

  toString(): string {
    return this.name === "PREMUL_SUM" ? `PREMUL_SUM(${this.factor})` : this.name;
  }
}

export const reduceOps: readonly ReduceOp[] = [
  ReduceOp.SUM,
  ReduceOp.AVG,
  ReduceOp.PRODUCT,
  ReduceOp.MIN,
  ReduceOp.MAX,
  ReduceOp.BAND,
  ReduceOp.BOR,
  ReduceOp.BXOR,
];
