import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { InvalidArgumentError } from "../errors/index.ts";
import { environmentFlag, environmentInteger, environmentText, environmentVariables } from "./environment.ts";

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
    expect(() => environmentFlag("TORCHELASTIC_USE_AGENT_STORE", { TORCHELASTIC_USE_AGENT_STORE: "Ture" })).toThrow(
      'environment variable TORCHELASTIC_USE_AGENT_STORE must be one of true, t, 1, yes, y, on, false, f, 0, no, n, off, got "Ture"',
    );
  });

  test.each(["x", "-1", "1.5", "1e3", " 1", "99999999999999999999"])("RANK=%p is refused by name", (RANK) => {
    expect(() => environmentInteger("RANK", { RANK })).toThrow(InvalidArgumentError);
    expect(() => environmentInteger("RANK", { RANK })).toThrow("RANK");
  });

  test("the table has every variable that the package reads", () => {
    // What the processes of the test harness tell each other is no affair of users.
    const internal = ["C10D_RANK_CHANNEL", "C10D_RANK_FOLDER"];
    const source = resolve(import.meta.dir, "..");
    const files = [...new Bun.Glob("**/*.ts").scanSync({ cwd: source })].filter(
      (file) => !/\.test\.ts$|fixtures\//.test(file),
    );
    const read = files.flatMap((file) => {
      const code = readFileSync(join(source, file), "utf8").replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, "");
      const single = Array.from(code.matchAll(/\benv\.([A-Z][A-Z0-9_]{2,})/g), ([, name = ""]) => name);
      const several = Array.from(code.matchAll(/\{([^{}]*)\}\s*=\s*(?:process\.)?env\b/g), ([, names = ""]) => names);
      return [...single, ...several.flatMap((names) => names.match(/[A-Z][A-Z0-9_]{2,}/g) ?? [])];
    });
    expect(read).toContain("SLURM_PROCID");
    expect(read).toContain("MASTER_PORT");
    const known = [...Object.keys(environmentVariables), ...internal];
    expect([...new Set(read)].filter((name) => !known.includes(name))).toEqual([]);
  });
});
