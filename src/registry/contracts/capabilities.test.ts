import { describe, expect, test } from "bun:test";
import { ReduceOp, reduceOps } from "../../collectives/index.ts";
import { UnsupportedOperationError } from "../../errors/index.ts";
import { CapabilityTable } from "./capabilities.ts";

const table = new CapabilityTable("mine", {
  ops: { allReduce: ["float32", "int8"], broadcast: ["bool"], barrier: [] },
  reduceOps: { float32: ["SUM", "AVG"] },
});

function refusal(call: () => void): UnsupportedOperationError {
  try {
    call();
  } catch (error) {
    expect(error).toBeInstanceOf(UnsupportedOperationError);
    return error as UnsupportedOperationError;
  }
  throw new Error("it was let through");
}

describe("CapabilityTable", () => {
  test("accepts what is in it", () => {
    table.require("barrier");
    table.require("broadcast", "bool");
    table.require("allReduce", "float32", ReduceOp.AVG);
  });

  test("an op that is not implemented", () => {
    const error = refusal(() => table.require("scatter", "float32"));
    expect(error.message).toBe('backend "mine" does not implement scatter');
    expect(error.details).toEqual({ backend: "mine", op: "scatter" });
  });

  test("a dtype that the op does not accept: the message lists those it does", () => {
    const error = refusal(() => table.require("allReduce", "bool", ReduceOp.SUM));
    expect(error.message).toContain('"mine" does not take bool tensors (it takes float32, int8)');
    expect(error.details.argument).toBe("dtype");
  });

  test("a reduce op that the dtype does not have", () => {
    const error = refusal(() => table.require("allReduce", "float32", ReduceOp.BOR));
    expect(error.message).toContain('"mine" cannot use ReduceOp.BOR with float32 tensors (it has ');
    expect(error.details.argument).toBe("op");
    refusal(() => table.require("allReduce", "int8", ReduceOp.SUM));
  });

  test("each reduce op is distinct", () => {
    const all = [...reduceOps, ReduceOp.premulSum(2)];
    for (const claimed of all) {
      const one = new CapabilityTable("one", {
        ops: { allReduce: ["float32"] },
        reduceOps: { float32: [claimed.name] },
      });
      for (const op of all) {
        if (op === claimed) one.require("allReduce", "float32", op);
        else refusal(() => one.require("allReduce", "float32", op));
      }
    }
  });
});
