import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { giveAway, otherUser, testAsRoot } from "./fixtures/other-user.ts";
import { createFoldersIn } from "./own-folder.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "c10d-own-folder-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

test("createFoldersIn creates what is missing, for this user alone", () => {
  const made = createFoldersIn(join(folder, "logs"), "job", "0");
  expect(made).toBe(join(folder, "logs/job/0"));
  for (const path of ["logs", "logs/job", "logs/job/0"]) expect(statSync(join(folder, path)).mode & 0o777).toBe(0o700);
  expect(createFoldersIn(join(folder, "logs"), "job", "0")).toBe(made);
});

testAsRoot("createFoldersIn creates nothing at the target of another user's link", () => {
  mkdirSync(join(folder, "target"));
  symlinkSync(join(folder, "target"), join(folder, "link"));
  giveAway(join(folder, "link"));
  expect(() => createFoldersIn(join(folder, "link/logs"), "job")).toThrow(
    `${join(folder, "link")} belongs to another user (uid ${otherUser})`,
  );
  expect(existsSync(join(folder, "target/logs"))).toBe(false);
});
