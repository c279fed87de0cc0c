import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { InvalidArgumentError } from "../errors/index.ts";
import { environmentFlag, environmentInteger, environmentText, userVariables } from "./index.ts";
import { environmentVariables } from "./variables.ts";

describe("environment", () => {
  test("unset and empty are the same", () => {
    expect(environmentText("MASTER_ADDR", {})).toBeUndefined();
    expect(environmentText("MASTER_ADDR", { MASTER_ADDR: "" })).toBeUndefined();
    expect(environmentInteger("RANK", { RANK: "" })).toBeUndefined();
    expect(environmentFlag("TORCHELASTIC_USE_AGENT_STORE", {})).toBe(false);
  });

  test("the default of a flag is a value of it", () => {
    const flags = Object.entries(environmentVariables).filter(([, { type }]) => type === "flag");
    expect(flags.length).toBeGreaterThan(5);
    for (const [, row] of flags) expect(["True", "False"]).toContain(row.default);
  });

  test("values are parsed by type", () => {
    expect(environmentText("MASTER_ADDR", { MASTER_ADDR: "h" })).toBe("h");
    expect(environmentInteger("RANK", { RANK: "03" })).toBe(3);
    expect(environmentFlag("TORCHELASTIC_USE_AGENT_STORE", { TORCHELASTIC_USE_AGENT_STORE: "True" })).toBe(true);
    expect(environmentFlag("TORCHELASTIC_USE_AGENT_STORE", { TORCHELASTIC_USE_AGENT_STORE: "0" })).toBe(false);
    expect(() => environmentFlag("TORCHELASTIC_USE_AGENT_STORE", { TORCHELASTIC_USE_AGENT_STORE: "Ture" })).toThrow(
      'environment variable TORCHELASTIC_USE_AGENT_STORE must be one of true, t, 1, yes, y, on, false, f, 0, no, n, off, got "Ture"',
    );
  });

  test.each(["x", "-1", "1.5", "1e3", " 1", "99999999999999999999"])("RANK=%p is refused by name", (RANK) => {
    expect(() => environmentInteger("RANK", { RANK })).toThrow(InvalidArgumentError);
    expect(() => environmentInteger("RANK", { RANK })).toThrow("RANK");
  });

  test("variables are read through the table, whose names the compiler knows", () => {
    const source = resolve(import.meta.dir, "..");
    const files = [...new Bun.Glob("**/*.ts").scanSync({ cwd: source })].filter(
      (file) => !/\.test\.ts$|fixtures\/|^environment\//.test(file),
    );
    expect(files.length).toBeGreaterThan(100);
    // A child process gets all variables; that reads none of them.
    const others = files.filter((file) => {
      const code = readFileSync(join(source, file), "utf8").replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, "");
      return /\bprocess\.env\b|\bBun\.env\b|\{[^{}]*\benv\b[^{}]*\} = (process|Bun)\b/.test(
        code.replaceAll("...process.env,", ""),
      );
    });
    expect(others, "read these by the functions of src/environment").toEqual([]);
  });

  test("what processes of this package tell each other is not shown to users", () => {
    const shown = userVariables.map(([name]) => name);
    expect(shown).toContain("MASTER_PORT");
    expect(shown).not.toContain("C10D_RANK_CHANNEL");
  });
});
