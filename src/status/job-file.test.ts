import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { JOB_FILE, type LaunchedJobInfo, readJobFile, writeJobFile } from "./job-file.ts";
import { readJobs, removeJob, sweepJobs } from "./status-folder.ts";

let root: string;
let folder: string;
let path: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "c10d-job-file-"));
  folder = join(root, "job");
  path = join(folder, JOB_FILE);
  mkdirSync(folder, { mode: 0o700 });
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const info: LaunchedJobInfo = {
  ...{ pid: process.pid, processStart: 5, runId: "x", attempt: 0, node: 0, nnodes: 1, ranks: 2 },
  ...{ command: ["bun", "x.ts"], startedAt: 0.5 },
};

describe("what a launcher says of its job", () => {
  test("is read as it was written", () => {
    expect(readJobFile(folder)).toBeUndefined();
    writeJobFile(folder, info);
    expect(readJobFile(folder)).toEqual(info);
    removeJob(folder);
    expect(readJobs(root)).toEqual([]);
  });

  test("has no control characters", () => {
    writeJobFile(folder, { ...info, runId: "\x1b[2Jx", command: ["bun", "a\nb"] });
    expect(readJobFile(folder)).toEqual({ ...info, runId: "\\x1b[2Jx", command: ["bun", "a\\nb"] });
  });

  test.each<[string, unknown]>([
    ["null", null],
    ["a list", []],
    ["a text", "job"],
    ["an id that is a number", { ...info, runId: 5 }],
    ["a number that is a text", { ...info, pid: "1" }],
    ["so many ranks that nobody could list them", { ...info, ranks: 1e9 }],
    ["a command that is a text", { ...info, command: "bun" }],
    ["nothing but an id", { runId: "x" }],
  ])("is ignored if it is %s", (_, value) => {
    writeFileSync(path, JSON.stringify(value));
    expect(readJobs(root)).toMatchObject([{ id: "job", launched: undefined, isRunning: false, ranks: [] }]);
    sweepJobs(root);
  });

  test.each<[string, () => void]>([
    ["no JSON", () => writeFileSync(path, "{")],
    ["a pipe", () => Bun.spawnSync(["mkfifo", path])],
    [
      "huge",
      () => {
        writeFileSync(path, "");
        truncateSync(path, 3 * 2 ** 30);
      },
    ],
  ])("is ignored if it is %s", (_, make) => {
    make();
    expect(readJobs(root)).toMatchObject([{ id: "job", launched: undefined }]);
  });

  test("a pipe in the place of the folder of all jobs blocks nobody", () => {
    const pipe = join(root, "pipe");
    Bun.spawnSync(["mkfifo", pipe]);
    sweepJobs(pipe);
    expect(readJobs(pipe)).toEqual([]);
  });
});
