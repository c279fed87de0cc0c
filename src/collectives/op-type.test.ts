import { describe, expect, test } from "bun:test";
import { Opcode } from "../native/abi.generated.ts";
import { opNames } from "./op-table.ts";
import { OpType } from "./op-type.ts";

const names = Object.keys(OpType).filter((name) => Number.isNaN(Number(name)));

describe("OpType", () => {
  test("has the numbers of the shim ABI; UNKNOWN stays on this side", () => {
    const numbers = Object.fromEntries(names.map((name) => [name, OpType[name as keyof typeof OpType]]));
    expect(numbers as Record<string, number>).toEqual({ ...Opcode, UNKNOWN: 100 });
  });

  test("every op has a name for messages", () => {
    for (const name of names) expect(opNames[OpType[name as keyof typeof OpType]]).toMatch(/^[a-z][A-Za-z]+$/);
  });
});
