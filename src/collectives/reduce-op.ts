import { brand, describeNumber, InvalidArgumentError } from "../errors/index.ts";

/** Name of a {@link ReduceOp}. */
export type ReduceOpName = "SUM" | "AVG" | "PRODUCT" | "MIN" | "MAX" | "BAND" | "BOR" | "BXOR" | "PREMUL_SUM";

/** Numbers of the reduce ops. c10d: `RedOpType`. */
export const reduceOpCodes: { readonly [name in ReduceOpName]: number } = {
  SUM: 0,
  AVG: 1,
  PRODUCT: 2,
  MIN: 3,
  MAX: 4,
  BAND: 5,
  BOR: 6,
  BXOR: 7,
  PREMUL_SUM: 8,
};

/**
 * How the elements of all ranks are combined into one. Use the constants; `ReduceOp.premulSum(f)` multiplies each
 * rank's elements by `f` before summing.
 *
 * c10d: `ReduceOp` (same numbers as `RedOpType`).
 */
export class ReduceOp {
  static {
    brand(ReduceOp, "ReduceOp");
  }
  static readonly SUM: ReduceOp = new ReduceOp("SUM");
  static readonly AVG: ReduceOp = new ReduceOp("AVG");
  static readonly PRODUCT: ReduceOp = new ReduceOp("PRODUCT");
  static readonly MIN: ReduceOp = new ReduceOp("MIN");
  static readonly MAX: ReduceOp = new ReduceOp("MAX");
  static readonly BAND: ReduceOp = new ReduceOp("BAND");
  static readonly BOR: ReduceOp = new ReduceOp("BOR");
  static readonly BXOR: ReduceOp = new ReduceOp("BXOR");

  /** Sum of the elements, each multiplied by `factor` first: a number, not a tensor on the host or on a device. */
  static premulSum(factor: number): ReduceOp {
    if (typeof factor !== "number" || Number.isNaN(factor)) {
      const hint = typeof factor === "object" && factor !== null ? "; a factor in a tensor is not supported" : "";
      throw new InvalidArgumentError(`premulSum: factor must be a number, got ${describeNumber(factor)}${hint}`, {
        argument: "factor",
      });
    }
    return new ReduceOp("PREMUL_SUM", factor);
  }

  readonly name: ReduceOpName;
  readonly code: number;
  /** Factor of PREMUL_SUM, else 1. */
  readonly factor: number;

  private constructor(name: ReduceOpName, factor = 1) {
    this.name = name;
    this.code = reduceOpCodes[name];
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
