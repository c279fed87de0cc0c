import { describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "../errors/index.ts";
import { environmentChoice, environmentFlag } from "./index.ts";

describe("a variable of the environment", () => {
  test("is one of its values in any case, or unset", () => {
    const read = (text: string | undefined) =>
      environmentChoice("C10D_LOG_LEVEL", ["OFF", "INFO"], { C10D_LOG_LEVEL: text });
    for (const text of [undefined, ""]) expect(read(text)).toBeUndefined();
    expect(read("info")).toBe("INFO");
    const act = () => read("LOUD");
    expect(act).toThrow(InvalidArgumentError);
    expect(act).toThrow('environment variable C10D_LOG_LEVEL must be one of OFF, INFO, got "LOUD"');
  });

  test("is on or off", () => {
    const read = (C10D_CHECK_DETACH: string | undefined) => environmentFlag("C10D_CHECK_DETACH", { C10D_CHECK_DETACH });
    for (const text of ["1", "True", "YES", "on"]) expect(read(text)).toBe(true);
    for (const text of [undefined, "", "0", "False", "no", "OFF"]) expect(read(text)).toBe(false);
    const readOther = (C10D_STATUS: string | undefined) => environmentFlag("C10D_STATUS", { C10D_STATUS });
    for (const text of [undefined, "", "1"]) expect(readOther(text)).toBe(true);
    expect(readOther("0")).toBe(false);
    for (const text of ["2", "enabled", " 1"]) expect(() => read(text)).toThrow(`got "${text}"`);
  });
});
