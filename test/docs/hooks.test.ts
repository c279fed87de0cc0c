import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { files, page } from "./code/hooks.ts";
import { CodeFolder } from "./code-folder.ts";

setDefaultTimeout(60_000);

// Runs the code of docs/hooks.md.

let folder: CodeFolder;
beforeAll(() => {
  folder = new CodeFolder("hooks", files);
});
afterAll(() => folder[Symbol.dispose]());

test("an error shows the line of the call", async () => {
  const { exitCode, lines } = await folder.run(["late.ts"]);
  expect(exitCode).toBe(0);
  const line = page.match(/`details\.callSite` is `(\S+)` here/)?.[1] ?? "";
  expect(lines.filter((each) => each.includes(line))).toHaveLength(3);
});

test("hooks print what the page says", async () => {
  const { exitCode, stderr, lines } = await folder.run(["hooks.ts"]);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  const printed = page.match(/^It prints\n\n```text\n([\s\S]*?)```/m)?.[1] ?? "";
  expect(lines.toSorted()).toEqual(printed.trim().split("\n").sort());
});

test("channels print what the page says", async () => {
  const { lines } = await folder.run(["channels.ts"]);
  expect(lines).toEqual([page.match(/It prints `(barrier .*?)`/)?.[1] ?? ""]);
});
