import { expect, test } from "bun:test";
import { OpType } from "../../collectives/op-type.ts";
import { reduceOpCodes } from "../../collectives/reduce-op.ts";
import type { Capabilities } from "../../registry/index.ts";
import { dtypes } from "../../tensor/index.ts";
import { narrowedCapabilities } from "./narrowed-capabilities.ts";

const all: Capabilities = {
  ops: { allReduce: ["float32", "int8"], broadcast: ["int8"], barrier: [] },
  reduceOps: { float32: ["SUM", "AVG"], int8: ["SUM", "MAX"] },
  abort: true,
};
const everything = { ops: 0n, dtypes: 0n, reduceOps: 0n, messagesInOrder: false, services: 0n, canSplit: false };
const bits = (...codes: number[]): bigint => codes.reduce((mask, code) => mask | (1n << BigInt(code)), 0n);

test("a shim that reports nothing leaves the table of the plugin unchanged", () => {
  expect(narrowedCapabilities(all, everything)).toBe(all);
});

test("ops, dtypes and reduce ops that a group lacks are removed, each on its own", () => {
  const ops = bits(OpType.ALLREDUCE, OpType.BARRIER, OpType.GATHER);
  expect(narrowedCapabilities(all, { ...everything, ops })).toEqual({
    ...all,
    ops: { allReduce: ["float32", "int8"], barrier: [] },
  });
  expect(narrowedCapabilities(all, { ...everything, dtypes: bits(dtypes.int8.code) })).toEqual({
    ...all,
    ops: { allReduce: ["int8"], broadcast: ["int8"], barrier: [] },
    reduceOps: { int8: ["SUM", "MAX"] },
  });
  expect(narrowedCapabilities(all, { ...everything, reduceOps: bits(reduceOpCodes.AVG) })).toEqual({
    ...all,
    reduceOps: { float32: ["AVG"], int8: [] },
  });
});

test("a group whose messages stay in order says so", () => {
  expect(narrowedCapabilities(all, { ...everything, messagesInOrder: true })).toEqual({
    ...all,
    messagesInOrder: true,
  });
});
