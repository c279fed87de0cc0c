import { expect, test } from "bun:test";
import fake from "../backends/fake/plugin.ts";
import { capabilities as gloo } from "../backends/gloo/capabilities.ts";
import { InvalidArgumentError } from "../errors/index.ts";
import { BackendType, type Capabilities, checkOptions } from "../registry/index.ts";
import { fakeInPlaceOf } from "./fake-in-place-of.ts";

test("has the name and the type of the backend that it replaces", () => {
  expect(fakeInPlaceOf("gloo")).toMatchObject({ name: "gloo", type: BackendType.GLOO });
  expect(fakeInPlaceOf("mine")).toMatchObject({ name: "mine", type: BackendType.CUSTOM });
});

test("accepts what the replaced backend accepts, and no more", () => {
  const { ops, reduceOps } = fakeInPlaceOf("gloo").capabilities;
  // The order of dtypes in a table does not matter.
  const sets = (table: Capabilities["ops"]) =>
    new Map(Object.entries(table).map(([op, dtypes]) => [op, new Set(dtypes)]));
  expect(sets(ops)).toEqual(sets(gloo.ops));
  expect(reduceOps.float32).not.toContain("PREMUL_SUM");
  expect(fake.capabilities.reduceOps.float32).toContain("PREMUL_SUM");
  expect(fakeInPlaceOf("ucc").capabilities.ops.monitoredBarrier).toBeUndefined();
  expect(fakeInPlaceOf("mine").capabilities).toBe(fake.capabilities);
});

test.each([
  ["gloo", { threads: 4, interface: "eth0" }, {}],
  ["gloo", { threads: 4, seed: 7 }, { seed: 7 }],
  ["mpi", { implementation: "mpich" }, {}],
  ["ucc", { mode: "solo" }, { mode: "solo" }],
  ["mine", { seed: 7 }, { seed: 7 }],
])("in place of %s takes %p", async (name, given, effective) => {
  expect(await checkOptions(fakeInPlaceOf(name), given)).toEqual(effective);
});

test.each([
  ["gloo", { threds: 4 }, 'backend "gloo": unknown option threds (known are host, interface, threads, mode, seed'],
  ["gloo", { threads: 65 }, 'backend "gloo": option threads: Expected a number of threads from 1 to 64, got 65'],
  ["gloo", { threads: 4, seed: -1 }, 'backend "gloo": option seed: '],
  ["mine", { threads: 4 }, 'backend "mine": unknown option threads'],
])("in place of %s refuses %p", async (name, given, message) => {
  expect(checkOptions(fakeInPlaceOf(name), given)).rejects.toThrow(message);
});

test("refuses an invalid name", () => {
  expect(() => fakeInPlaceOf(undefined as never)).toThrow(InvalidArgumentError);
});
