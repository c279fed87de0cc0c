import { afterEach, describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "../errors/index.ts";
import { DebugLevel, getDebugLevel, setDebugLevel, setDebugLevelFromEnv } from "./debug-level.ts";

afterEach(() => setDebugLevel(DebugLevel.OFF));

describe("debug level", () => {
  test("has c10d's numbers", () => {
    expect([DebugLevel.OFF, DebugLevel.INFO, DebugLevel.DETAIL] as number[]).toEqual([0, 1, 2]);
  });

  test.each([
    [undefined, DebugLevel.OFF],
    ["", DebugLevel.OFF],
    ["off", DebugLevel.OFF],
    ["Info", DebugLevel.INFO],
    ["DETAIL", DebugLevel.DETAIL],
  ])("TORCH_DISTRIBUTED_DEBUG=%p", (text, level) => {
    setDebugLevel(DebugLevel.INFO);
    setDebugLevelFromEnv({ TORCH_DISTRIBUTED_DEBUG: text });
    expect(getDebugLevel()).toBe(level);
  });

  test("an unknown value is refused and changes nothing", () => {
    setDebugLevel(DebugLevel.DETAIL);
    expect(() => setDebugLevelFromEnv({ TORCH_DISTRIBUTED_DEBUG: "LOUD" })).toThrow(
      "The value of TORCH_DISTRIBUTED_DEBUG must be OFF, INFO, or DETAIL",
    );
    for (const level of [7, "DETAIL", "__proto__", null]) {
      expect(() => setDebugLevel(level as DebugLevel)).toThrow(InvalidArgumentError);
    }
    expect(() => setDebugLevel("DETAIL" as never)).toThrow('got "DETAIL"; write DebugLevel.DETAIL');
    expect(getDebugLevel()).toBe(DebugLevel.DETAIL);
  });
});
