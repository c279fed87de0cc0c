import { describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "./dist-error.ts";
import { choiceOf, flagOf } from "./setting.ts";

describe("an environment variable", () => {
  test("is one of its values in any case, or unset", () => {
    for (const text of [undefined, ""]) expect(choiceOf("LEVEL", text, ["OFF", "INFO"])).toBeUndefined();
    expect(choiceOf("LEVEL", "info", ["OFF", "INFO"])).toBe("INFO");
    const act = () => choiceOf("LEVEL", "LOUD", ["OFF", "INFO"]);
    expect(act).toThrow(InvalidArgumentError);
    expect(act).toThrow('environment variable LEVEL must be one of OFF, INFO, got "LOUD"');
  });

  test("is on or off", () => {
    for (const text of ["1", "True", "YES", "on"]) expect(flagOf("FLAG", text)).toBe(true);
    for (const text of [undefined, "", "0", "False", "no", "OFF"]) expect(flagOf("FLAG", text)).toBe(false);
    for (const text of ["2", "enabled", " 1"]) expect(() => flagOf("FLAG", text)).toThrow(`got "${text}"`);
  });
});
