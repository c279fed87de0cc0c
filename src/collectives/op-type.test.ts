import { describe, expect, test } from "bun:test";
import { opNames } from "./op-table.ts";
import { OpType } from "./op-type.ts";

const names = Object.keys(OpType).filter((name) => Number.isNaN(Number(name)));

describe("OpType", () => {
  test("every op has a name for messages", () => {
    for (const name of names) expect(opNames[OpType[name as keyof typeof OpType]]).toMatch(/^[a-z][A-Za-z]+$/);
  });
});
