import { describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "../errors/index.ts";
import { ReduceOp, reduceOps } from "./reduce-op.ts";

describe("ReduceOp", () => {
  test("constants have their names and the factor 1", () => {
    for (const op of reduceOps) {
      expect(Reflect.get(ReduceOp, op.name)).toBe(op);
      expect(op.factor).toBe(1);
      expect(`${op}`).toBe(op.name);
    }
  });

  test("premulSum keeps its factor", () => {
    const op = ReduceOp.premulSum(0.25);
    expect(op).toBeInstanceOf(ReduceOp);
    expect([op.name, op.factor, `${op}`]).toEqual(["PREMUL_SUM", 0.25, "PREMUL_SUM(0.25)"]);
  });

  test.each<unknown>([Number.NaN, "2", undefined, null, 2n, {}])("premulSum(%p) is refused", (factor) => {
    expect(() => ReduceOp.premulSum(factor as number)).toThrow(InvalidArgumentError);
    expect(() => ReduceOp.premulSum(factor as number)).toThrow("factor must be a number");
  });

  test("premulSum of a tensor says that it has to be a number", () => {
    expect(() => ReduceOp.premulSum(Float32Array.of(2) as unknown as number)).toThrow(
      "premulSum: factor must be a number, got Float32Array; a factor in a tensor is not supported",
    );
  });
});
