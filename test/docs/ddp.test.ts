import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { files, page } from "./code/ddp.ts";
import { CodeFolder, root } from "./code-folder.ts";

setDefaultTimeout(60_000);

const folder = new CodeFolder("ddp", files);
afterAll(() => folder[Symbol.dispose]());

/** What each program prints, on both ranks. */
const printed: Readonly<Record<string, readonly string[]>> = {
  "train.ts": ["y = 3.00 x + 1.00"],
  "hook.ts": ["Float32Array(3) [ 0.5, 0.333251953125, 1000 ]", "Float32Array(3) [ 0.5, 0.3333333432674408, 1 ]"],
  "uneven.ts": ["-1.5"],
};

test("the page has these programs", () => {
  expect([...files.keys()]).toEqual(Object.keys(printed));
});

test.each(Object.entries(printed))("%s", async (name, lines) => {
  const expected = lines.flatMap((line) => [line, line]).sort();
  expect(await folder.runRanks(name)).toMatchObject({ exitCode: 0, stderr: "", lines: expected });
});

test("the codes of errors that it names are those of the code", () => {
  const [, section = ""] = page.split("## When something is wrong");
  const named = new Set(
    Array.from((section.split("\n## ")[0] ?? "").matchAll(/`([A-Z]{3,}_[A-Z_]+)`/g), ([, code = ""]) => code),
  );
  const sources = readdirSync(join(root, "src/ddp")).filter((file) => /^(?!.*\.test).*\.ts$/.test(file));
  const code = sources.map((file) => readFileSync(join(root, "src/ddp", file), "utf8")).join("\n");
  for (const each of named) if (each !== "INVALID_ARGUMENT") expect(code).toContain(`"${each}"`);
  expect(named.size).toBeGreaterThan(7);
});
