import { describe, expect, test } from "bun:test";
import { BackendType, backendTypeOf } from "./backend-type.ts";

describe("BackendType", () => {
  test("has c10d's numbers", () => {
    const { UNDEFINED, GLOO, NCCL, UCC, MPI, CUSTOM } = BackendType;
    expect([UNDEFINED, GLOO, NCCL, UCC, MPI, CUSTOM] as number[]).toEqual([0, 1, 2, 3, 4, 5]);
  });

  test.each([
    ["gloo", BackendType.GLOO],
    ["GLOO", BackendType.GLOO],
    ["nccl", BackendType.NCCL],
    ["ucc", BackendType.UCC],
    ["Mpi", BackendType.MPI],
    ["fake", BackendType.CUSTOM],
    ["my-backend", BackendType.CUSTOM],
    ["", BackendType.CUSTOM],
    ["constructor", BackendType.CUSTOM],
    ["__proto__", BackendType.CUSTOM],
    ["toString", BackendType.CUSTOM],
  ])("%s", (name, type) => {
    expect(backendTypeOf(name)).toBe(type);
  });
});
