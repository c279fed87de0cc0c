import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { examples, files, page } from "./code/containers.ts";
import { CodeFolder, root } from "./code-folder.ts";

setDefaultTimeout(60_000);

// Runs the code of docs/containers.md.

let folder: CodeFolder;
beforeAll(() => {
  folder = new CodeFolder("containers", files);
});
afterAll(() => folder[Symbol.dispose]());

test("every example has a name", () => {
  expect(page.match(/^```/gm)).toHaveLength(2 * examples.size);
});

test("a lazy plugin in the parent, and middleware in the child", async () => {
  const { exitCode, stderr, lines } = await folder.runRanks("train.ts");
  expect({ exitCode, stderr, count: lines.length }).toEqual({ exitCode: 0, stderr: "", count: 2 });
  for (const line of lines) expect(line).toContain('allReduce #1 on group "0" (sockets, rank ');
});

test("a registry looks up backends by type", async () => {
  const { exitCode, lines } = await folder.run(["list.ts"]);
  expect(exitCode).toBe(0);
  expect(lines.join(" ")).toStartWith('gloo [ "cpu" ] ');
});

test("the entries of the flight recorder", async () => {
  const { exitCode, stderr, lines } = await folder.run(["recorded.ts"]);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  expect(lines).toEqual([
    "allReduce #2 of 2 float32: started, pending",
    expect.stringMatching(/^broadcast #1 of 3 bfloat16: completed, [\d.]+ ms$/),
  ]);
});

test("a scheme", async () => {
  const lines = ["rank 0 of 2: 1", "rank 1 of 2: 1"];
  expect(await folder.runRanks("job.ts", { JOB_FOLDER: folder.path })).toMatchObject({
    exitCode: 0,
    stderr: "",
    lines,
  });
});

test("the page lists all tokens", () => {
  const source = readFileSync(join(root, "src/index.ts"), "utf8");
  const tokens = [...source.matchAll(/^ {2}([A-Z]+(?:_[A-Z]+)*),$/gm)].map(([, token = ""]) => token);
  expect(tokens).toContain("CLOCK");
  expect(tokens.filter((token) => token !== "BACKEND_SDK_VERSION" && !page.includes(`\`${token}\``))).toEqual([]);
});
