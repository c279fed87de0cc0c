import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { blocks, files, used } from "./code/testing.ts";
import { CodeFolder } from "./code-folder.ts";

// Runs the examples of docs/testing.md.

setDefaultTimeout(120_000);
const LIMIT_MS = 110_000;

let folder: CodeFolder;
beforeAll(() => {
  folder = new CodeFolder("testing", files, LIMIT_MS);
});
afterAll(() => folder[Symbol.dispose]());

async function run(...args: readonly string[]): Promise<{ exitCode: number; output: string }> {
  const { exitCode, stdout, stderr } = await folder.run(args);
  return { exitCode, output: stdout + stderr };
}

test("ranks in one thread", async () => {
  const { exitCode, output } = await run("test", "./average.test.ts");
  expect({ exitCode, output }).toEqual({ exitCode: 0, output: expect.stringContaining("1 pass") });
});

test("time-outs without waiting", async () => {
  const { exitCode, output } = await run("test", "./late.test.ts");
  expect({ exitCode, output }).toEqual({ exitCode: 0, output: expect.stringContaining("1 pass") });
});

test("the preload replaces Gloo", async () => {
  const { exitCode, output } = await run("test", "--preload", "./use-fake.ts", "./application.test.ts");
  expect({ exitCode, output }).toEqual({ exitCode: 0, output: expect.stringContaining("1 pass") });
});

test("ranks in processes", async () => {
  const { exitCode, output } = await run("test", "./sum.test.ts", "./faults.test.ts");
  expect({ exitCode, output }).toEqual({ exitCode: 0, output: expect.stringContaining("2 pass") });
});

test("the suite of stores", async () => {
  const { exitCode, output } = await run("test", "./store.test.ts");
  expect({ exitCode, output }).toEqual({ exitCode: 0, output: expect.stringMatching(/\b[1-9]\d+ pass/) });
});

test("the suite on a device", async () => {
  const { exitCode, output } = await run("test", "./device.test.ts");
  expect({ exitCode, output }).toEqual({ exitCode: 0, output: expect.stringContaining("tensors in cuda memory") });
});

test("no example is left out", () => {
  expect(blocks.filter((code) => !used.has(code))).toEqual([]);
});
