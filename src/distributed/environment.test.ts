import { describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "../errors/index.ts";
import { environmentFlag, environmentInteger, environmentText } from "./environment.ts";

describe("environment", () => {
  test("unset and empty are the same", () => {
    expect(environmentText("MASTER_ADDR", {})).toBeUndefined();
    expect(environmentText("MASTER_ADDR", { MASTER_ADDR: "" })).toBeUndefined();
    expect(environmentInteger("RANK", { RANK: "" })).toBeUndefined();
    expect(environmentFlag("TORCHELASTIC_USE_AGENT_STORE", {})).toBe(false);
  });

  test("values are read by type", () => {
    expect(environmentText("MASTER_ADDR", { MASTER_ADDR: "h" })).toBe("h");
    expect(environmentInteger("RANK", { RANK: "03" })).toBe(3);
    expect(environmentFlag("TORCHELASTIC_USE_AGENT_STORE", { TORCHELASTIC_USE_AGENT_STORE: "True" })).toBe(true);
    expect(environmentFlag("TORCHELASTIC_USE_AGENT_STORE", { TORCHELASTIC_USE_AGENT_STORE: "0" })).toBe(false);
  });

  test.each(["x", "-1", "1.5", "1e3", " 1", "99999999999999999999"])("RANK=%p is refused by name", (RANK) => {
    expect(() => environmentInteger("RANK", { RANK })).toThrow(InvalidArgumentError);
    expect(() => environmentInteger("RANK", { RANK })).toThrow("RANK");
  });
});
