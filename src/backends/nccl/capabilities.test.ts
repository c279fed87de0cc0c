import { describe, expect, test } from "bun:test";
import { ReduceOp, reduceOps } from "../../collectives/reduce-op.ts";
import { CapabilityTable } from "../../registry/index.ts";
import { capabilities, capabilitiesOf } from "./capabilities.ts";

const table = new CapabilityTable("nccl", capabilities);
const names = (dtype: Parameters<CapabilityTable["has"]>[1]): string[] =>
  [...reduceOps, ReduceOp.premulSum(2)].filter((op) => table.has("allReduce", dtype, op)).map((op) => op.name);

describe("what the nccl backend can do", () => {
  test("follows NCCL and c10d, by dtype", () => {
    expect(names("bool").sort()).toEqual(["MAX", "MIN", "PRODUCT", "SUM"]);
    expect(names("complex64").sort()).toEqual(["AVG", "PREMUL_SUM", "SUM"]);
    expect(names("bfloat16").sort()).toEqual(["AVG", "MAX", "MIN", "PREMUL_SUM", "PRODUCT", "SUM"]);
    expect(names("int64").sort()).toEqual(["AVG", "MAX", "MIN", "PRODUCT", "SUM"]);
    expect([...names("int16"), ...names("uint16"), ...names("float8_e5m2")]).toEqual([]);
    expect(table.has("broadcast", "int16")).toBe(true);
  });

  test("refusals name the reduce op, the backend and the dtype", () => {
    expect(() => table.require("allReduce", "int32", ReduceOp.BAND)).toThrow(
      'backend "nccl" cannot use ReduceOp.BAND with int32 tensors (it has SUM, AVG, PRODUCT, MIN, MAX)',
    );
    expect(() => table.require("allReduce", "bool", ReduceOp.AVG)).toThrow("cannot use ReduceOp.AVG with bool tensors");
    expect(() => table.require("allReduce", "int32", ReduceOp.premulSum(2))).toThrow(
      "cannot use ReduceOp.PREMUL_SUM(2) with int32 tensors",
    );
    expect(() => table.requireAnySource()).toThrow('backend "nccl" cannot receive from any rank');
  });

  test("8-bit floats are moved from NCCL 2.24 on", () => {
    expect(capabilitiesOf(22700)).toBe(capabilities);
    expect(new CapabilityTable("nccl", capabilitiesOf(22400)).has("send", "float8_e4m3fn")).toBe(true);
    const old = new CapabilityTable("nccl", capabilitiesOf(22399));
    expect([table.has("send", "float8_e4m3fn"), old.has("send", "float8_e4m3fn")]).toEqual([true, false]);
    expect([old.has("send", "float32"), old.hasOp("barrier")]).toEqual([true, true]);
  });

  test("what a release lacks is refused with the release that has it", () => {
    const { missing } = capabilitiesOf(21805);
    expect(missing?.registerMemory).toBe("it needs NCCL 2.19, this is 2.18.5");
    expect(missing?.openWindow).toBe("it needs NCCL 2.27, this is 2.18.5");
    expect(Object.keys(capabilitiesOf(22602).missing ?? {})).toEqual(["openWindow"]);
    const old = new CapabilityTable("nccl", capabilitiesOf(22203));
    expect(() => old.require("broadcast", "float8_e5m2")).toThrow(
      'backend "nccl" does not take float8_e5m2 tensors: it needs NCCL 2.24, this is 2.22.3 (it takes',
    );
    // Not even a newer one reduces them.
    expect(() => table.require("allReduce", "float8_e5m2")).toThrow("does not take float8_e5m2 tensors (it takes");
  });
});
