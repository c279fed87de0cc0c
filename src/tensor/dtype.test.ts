import { describe, expect, test } from "bun:test";
import { dtypeNames, dtypes, isDType } from "./dtype.ts";

describe("dtypes", () => {
  test("are these, with these sizes", () => {
    expect(Object.fromEntries(dtypeNames.map((name) => [name, dtypes[name].size]))).toEqual({
      uint8: 1,
      int8: 1,
      int16: 2,
      int32: 4,
      int64: 8,
      float16: 2,
      float32: 4,
      float64: 8,
      complex64: 8,
      complex128: 16,
      bool: 1,
      bfloat16: 2,
      float8_e5m2: 1,
      float8_e4m3fn: 1,
      uint16: 2,
      uint32: 4,
      uint64: 8,
    });
  });

  test("each row carries its own name", () => {
    for (const name of dtypeNames) expect(dtypes[name].name).toBe(name);
  });

  test("isDType takes own names only", () => {
    expect(dtypeNames.every(isDType)).toBe(true);
    for (const other of ["float", "Float32", "toString", "__proto__", "", 6, null, undefined]) {
      expect(isDType(other)).toBe(false);
    }
  });
});
