import { describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "../errors/index.ts";
import { type Fault, faultText, MAX_FAULTS, parseFault, parseFaults } from "./fault.ts";

describe("a fault script", () => {
  const lines: readonly (readonly [string, Fault])[] = [
    ["kill rank 2 before op 5", { action: "kill", rank: 2, when: "before", op: 5 }],
    ["stop rank 1 after op 3", { action: "stop", rank: 1, when: "after", op: 3 }],
    ["delay rank 0 before op 2 by 300ms", { action: "delay", rank: 0, when: "before", op: 2, by: "300ms" }],
    ["kill rank 0 during op 1", { action: "kill", rank: 0, when: "during", op: 1 }],
    ["drop rank 1 op 4", { action: "drop", rank: 1, op: 4 }],
  ];

  test.each(lines)("%s", (line, fault) => {
    expect(parseFault(line, 3)).toEqual(fault);
    expect(parseFault(`  ${line.toUpperCase().replace("300MS", "300ms").replaceAll(" ", "  ")} `, 3)).toEqual(fault);
    expect(faultText(fault)).toBe(line);
    expect(parseFault(fault, 3)).toEqual(fault);
  });

  const wrong: readonly (readonly [string | Fault, string])[] = [
    ["", "this is not a fault"],
    ["murder rank 1 before op 2", 'write for instance "kill rank 2 before op 5"'],
    ["kill rank 3 before op 1", "there is no rank 3 among 3"],
    ["kill rank -1 before op 1", "this is not a fault"],
    ["kill rank 1 before op 0", "ops are counted from 1"],
    ["kill rank 1 op 2", 'say when: "before", "during" or "after"'],
    ["kill rank 1 before op 2 by 1s", "a kill takes no length"],
    ["delay rank 1 before op 2", 'say for how long, e.g. "by 300ms"'],
    ["delay rank 1 before op 2 by 3days", "timeout must be"],
    ["drop rank 1 before op 2", "a drop takes neither a time nor a length"],
    [{ action: "delay", rank: 0, when: "after", op: 1, by: Number.POSITIVE_INFINITY }, "a delay must be finite"],
    [{ action: "drop", rank: 0.5, op: 1 }, "there is no rank 0.5"],
    [{ action: "murder", rank: 0, op: 1 } as unknown as Fault, "there is no such action"],
    [{ action: "kill", rank: 0, op: 1 } as unknown as Fault, 'say when: "before"'],
    [null as unknown as Fault, "there is no such action"],
  ];

  test.each(wrong)("refuses %j", (line, reason) => {
    expect(() => parseFault(line, 3)).toThrow(InvalidArgumentError);
    expect(() => parseFault(line, 3)).toThrow(reason);
  });

  test("is a list", () => {
    expect(() => parseFaults("drop rank 1 op 1" as unknown as string[], 2)).toThrow("expected a list");
  });

  test("has an end", () => {
    const script = Array.from({ length: MAX_FAULTS + 1 }, (_, i) => `drop rank 1 op ${i + 1}`);
    expect(parseFaults(script.slice(1), 2)).toHaveLength(MAX_FAULTS);
    expect(() => parseFaults(script, 2)).toThrow(`rank 1 has more than ${MAX_FAULTS}`);
  });
});
