import { afterAll, describe, expect, test } from "bun:test";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { interruptedWrite } from "./fixtures/interrupted-write.ts";
import { createOwnFile, replaceOwnFile } from "./index.ts";

const folder = mkdtempSync(join(tmpdir(), "c10d-own-file-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string) => join(folder, name);
const mode = (path: string) => (statSync(path).mode & 0o777).toString(8);

describe.each([
  ["createOwnFile", async (path: string) => void (await (await createOwnFile(path)).close())],
  ["replaceOwnFile", async (path: string) => replaceOwnFile(path, "new")],
])("%s", (name, make) => {
  test("makes a file for this user alone, and replaces one that is open to others", async () => {
    const path = at(`${name}-open`);
    writeFileSync(path, "old", { mode: 0o666 });
    await make(path);
    expect(mode(path)).toBe("600");
    expect(readFileSync(path, "utf8")).not.toContain("old");
  });

  test("does not follow a symbolic link", async () => {
    const [target, link] = [at(`${name}-target`), at(`${name}-link`)];
    writeFileSync(target, "untouched");
    symlinkSync(target, link);
    await make(link);
    expect(readFileSync(target, "utf8")).toBe("untouched");
    expect(statSync(link).isFile()).toBe(true);
  });

  test("fails for a folder that does not exist", async () => {
    expect(
      await make(at("nowhere/file")).then(
        () => "made",
        () => "failed",
      ),
    ).toBe("failed");
  });
});

test("a file that could not be put in place leaves nothing behind", () => {
  const before = readdirSync(folder).length;
  expect(() => replaceOwnFile(folder, "data")).toThrow();
  expect(readdirSync(folder).length).toBe(before);
});

test("a process that is killed while it writes leaves a file whose name does not contain that of the other", async () => {
  mkdirSync(at("killed"));
  const left = await interruptedWrite(at("killed/rank_7"));
  expect(basename(left)).toMatch(/^\.[-0-9a-f]{36}\.tmp$/);
}, 30_000);
