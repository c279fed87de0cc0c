import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { giveAway, otherUser, testAsRoot } from "./fixtures/other-user.ts";
import { readOwnText, withOwnFile } from "./read-own-file.ts";

const warnings: string[] = [];
const onWarning = (warning: Error) => warnings.push(warning.message);
beforeAll(() => process.on("warning", onWarning));
afterAll(() => process.off("warning", onWarning));

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "c10d-read-own-"));
  path = join(folder, "file");
});
afterEach(() => rmSync(folder, { recursive: true }));

/** What is reported of the file, which is looked at twice. */
async function reported(): Promise<readonly string[]> {
  expect([readOwnText(path, 100), readOwnText(path, 100)]).toEqual([undefined, undefined]);
  expect(withOwnFile(path, { maxBytes: 100, write: true }, () => 1)).toBeUndefined();
  // Warnings are emitted after the current job.
  await Bun.sleep(1);
  return warnings.filter((each) => each.startsWith(path)).map((each) => each.slice(path.length));
}

describe("a file that anybody of this user may have put there", () => {
  test("is read if it is one, and passed to a writer", async () => {
    expect(await reported()).toEqual([]);
    writeFileSync(path, "né");
    expect(readOwnText(path, 3)).toBe("né");
    expect(withOwnFile(path, { maxBytes: 3, write: true }, (_, bytes) => bytes)).toBe(3);
    writeFileSync(path, "");
    expect(readOwnText(path, 3)).toBe("");
  });

  test.each<[string, () => void, string]>([
    ["a pipe, which would block", () => Bun.spawnSync(["mkfifo", path]), "it is not a regular file"],
    ["a folder", () => mkdirSync(path), "it is not a regular file"],
    ["a symbolic link", () => symlinkSync(import.meta.path, path), "it is a symbolic link"],
    [
      "larger than it may be",
      () => {
        writeFileSync(path, "");
        truncateSync(path, 3 * 2 ** 30);
      },
      "it has 3221225472 bytes, more than 100",
    ],
  ])("is ignored if it is %s, which is reported once", async (_, make, text) => {
    make();
    expect(await reported()).toEqual([` is ignored: ${text}`]);
  });

  test("is ignored if it is a socket", async () => {
    using _server = Bun.listen({ unix: path, socket: { data() {} } });
    expect(await reported()).toEqual([" is ignored: it is not a regular file"]);
  });

  testAsRoot("is ignored if it is another user's", async () => {
    writeFileSync(path, "x");
    giveAway(path);
    expect(await reported()).toEqual([` is ignored: ${path} belongs to another user (uid ${otherUser})`]);
  });
});
