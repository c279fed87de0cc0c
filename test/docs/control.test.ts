import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { createContainer, getHandlerNames } from "../../src/index.ts";
import { files, page } from "./code/control.ts";
import { CodeFolder } from "./code-folder.ts";

setDefaultTimeout(60_000);

// Runs the programs of docs/control.md.

let folder: CodeFolder;
beforeAll(() => {
  folder = new CodeFolder("control", files);
});
afterAll(() => folder[Symbol.dispose]());

test("every program is run here", () => {
  expect(files.map(([name]) => name)).toEqual(["served.ts", "socket.ts", "collectives.ts"]);
});

test("served.ts: each rank answers", async () => {
  const { exitCode, stderr, lines } = await folder.runRanks("served.ts");
  expect([exitCode, stderr, lines]).toEqual([0, "", ["0 pong 3 true", "1 pong 3 true"]]);
});

test("socket.ts", async () => {
  const { exitCode, stderr, stdout } = await folder.run(["socket.ts"]);
  expect([exitCode, stderr, stdout]).toEqual([0, "", "unix:worker.sock pong\n"]);
});

test("collectives.ts", async () => {
  const { exitCode, stderr, stdout } = await folder.run(["collectives.ts"]);
  expect([exitCode, stderr, stdout]).toEqual([0, "", "[ 3, 3 ]\nbarrier failed -- missing ranks: 1\n"]);
});

test("the table has every handler", () => {
  const [, table = ""] = page.split("| handler | what it answers |");
  const rows = (table.split("\n\n")[0] ?? "").split("\n").map((row) => row.split("|")[1] ?? "");
  const names = rows.flatMap((cell) => Array.from(cell.matchAll(/`(\w+)`/g), ([, name = ""]) => name));
  expect(names.sort()).toEqual(getHandlerNames({ container: createContainer() }).sort());
});
