import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { giveAway, testAsRoot } from "../files/fixtures/other-user.ts";
import { OwnStatus } from "./own-status.ts";
import { processStart, processState } from "./process-state.ts";
import { readJob, readJobs, recordPath, removeIfOver, removeJob, sweepJobs } from "./status-folder.ts";
import { StatusRecord } from "./status-record.ts";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "c10d-status-root-"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function newJob(id: string): string {
  const folder = join(root, id);
  mkdirSync(folder, { mode: 0o700 });
  return folder;
}

/** A job whose only rank has ended. */
function deadJob(id: string): string {
  const folder = newJob(id);
  const script = `import { StatusRecord } from ${JSON.stringify(join(import.meta.dir, "status-record.ts"))};
    StatusRecord.create(${JSON.stringify(recordPath(folder, 0, 0))}, 0, 1);
    process.kill(process.pid, "SIGKILL");`;
  Bun.spawnSync([process.execPath, "-e", script]);
  return folder;
}

const launched = { runId: "x", attempt: 0, node: 0, nnodes: 1, ranks: 1, command: ["bun", "x.ts"], startedAt: 0 };

describe("jobs", () => {
  test("run as long as a rank or their launcher does", () => {
    const [live, dead, starting] = [newJob("live"), deadJob("dead"), newJob("starting")];
    const record = StatusRecord.create(recordPath(live, 1, 0), 1, 2);
    const own = { pid: process.pid, processStart: processStart(process.pid) };
    writeFileSync(join(starting, "job.json"), JSON.stringify({ ...launched, ...own }));
    const found = new Map(readJobs(root).map((job) => [job.id, job]));
    expect([...found.keys()].sort()).toEqual(["dead", "live", "starting"]);
    expect(found.get("live")).toMatchObject({ isRunning: true, launched: undefined, ranks: [{ rank: 1 }] });
    expect(found.get("dead")).toMatchObject({ isRunning: false, ranks: [{ rank: 0, process: "gone" }] });
    expect(found.get("starting")).toMatchObject({ isRunning: true, launched: { runId: "x" }, ranks: [] });
    // The number of the launcher's process belongs to another one by now.
    writeFileSync(
      join(starting, "job.json"),
      JSON.stringify({ ...launched, ...own, processStart: own.processStart - 1 }),
    );
    expect(readJob(starting).isRunning).toBe(false);
    for (const folder of [live, dead]) removeIfOver(folder);
    expect([existsSync(live), existsSync(dead)]).toEqual([true, false]);
    record.close();
  });

  test("leave nothing once they are over: what is old and dead is swept", () => {
    const [old, recent] = [deadJob("old"), deadJob("recent")];
    utimesSync(old, new Date(0), new Date(0));
    sweepJobs(root);
    expect([existsSync(old), existsSync(recent)]).toEqual([false, true]);
  });

  test("have their own files removed, and no others", () => {
    const folder = deadJob("job");
    writeFileSync(join(folder, "mine"), "");
    writeFileSync(join(root, "rank-0"), "");
    symlinkSync(join(root, "rank-0"), join(folder, "rank-1"));
    removeJob(folder);
    expect([readdirSync(folder), existsSync(join(root, "rank-0"))]).toEqual([["mine"], true]);
  });

  testAsRoot("of another user, or links to folders, do not count", () => {
    const folder = deadJob("job");
    symlinkSync(folder, join(root, "link"));
    expect(readJobs(root).map(({ id }) => id)).toEqual(["job"]);
    giveAway(folder);
    expect(readJobs(root)).toEqual([]);
    giveAway(root);
    expect(readJobs(root)).toEqual([]);
  });
});

describe("the record of a rank", () => {
  const faults: string[] = [];
  const plan = (job: string) => ({ rank: 0, worldSize: 2, job, onFault: (text: string) => void faults.push(text) });
  const withFolder = <T>(folder: string, body: () => T): T => {
    const before = process.env.C10D_STATUS_DIR;
    process.env.C10D_STATUS_DIR = folder;
    try {
      return body();
    } finally {
      if (before === undefined) delete process.env.C10D_STATUS_DIR;
      else process.env.C10D_STATUS_DIR = before;
    }
  };
  beforeEach(() => void faults.splice(0));

  test("is in the folder of its job, which goes when its last rank closes its groups", () => {
    const job = crypto.randomUUID();
    const [one, two] = withFolder("", () => [OwnStatus.open(plan(job)), OwnStatus.open({ ...plan(job), rank: 1 })]);
    expect([...(one?.ranks().keys() ?? [])]).toEqual([0, 1]);
    one?.close();
    expect(two?.ranks().get(0)).toMatchObject({ pid: process.pid, closedAt: expect.any(Number), exitedAt: undefined });
    expect(readJobs().find(({ id }) => id === job)?.isRunning).toBe(true);
    two?.close();
    expect(readJobs().some(({ id }) => id === job)).toBe(false);
    expect(faults).toEqual([]);
  });

  test("replaces that of an earlier process, and is beside that of another Worker", () => {
    const folder = deadJob("job");
    const [one, two] = withFolder(folder, () => [OwnStatus.open(plan("")), OwnStatus.open(plan(""))]);
    expect(readdirSync(folder).sort()).toEqual(["rank-0", "rank-0-1"]);
    one?.close();
    two?.close();
    // What the rank did last stays readable.
    expect(readdirSync(folder)).toEqual(["rank-0-1"]);
  });

  test("is not taken for that of the same rank of another world, which a Worker or a child may make in the folder", () => {
    const folder = newJob("worlds");
    const [a, b] = withFolder(folder, () => [
      OwnStatus.open(plan("world-a")),
      OwnStatus.open({ ...plan("world-b"), worldSize: 7 }),
    ]);
    expect([a, b].map((each) => each?.ranks().get(0)?.worldSize)).toEqual([2, 7]);
    for (const each of [a, b]) each?.close();
  });

  test("is one, however often the rank makes groups and closes them", () => {
    const given = newJob("given");
    const jobs: string[] = [];
    for (let cycle = 0; cycle < 1_000; cycle++) {
      withFolder(given, () => OwnStatus.open({ ...plan(""), rank: 8 })?.close());
      if (cycle % 50 > 0) continue;
      jobs.push(crypto.randomUUID());
      const job = jobs.at(-1) ?? "";
      const [one, two] = withFolder("", () => [OwnStatus.open(plan(job)), OwnStatus.open({ ...plan(job), rank: 1 })]);
      one?.close();
      expect(two?.ranks().size).toBe(2);
      two?.close();
    }
    expect(readdirSync(given)).toEqual(["rank-8"]);
    expect(readJobs().filter(({ id }) => jobs.includes(id))).toEqual([]);
    expect(faults).toEqual([]);
  });

  test("stays until the process exits, with its code, and the last process removes the folder", async () => {
    const job = crypto.randomUUID();
    const other = withFolder("", () => OwnStatus.open({ ...plan(job), rank: 1 }));
    const script = `import { OwnStatus } from ${JSON.stringify(join(import.meta.dir, "own-status.ts"))};
      OwnStatus.open({ rank: 0, worldSize: 2, job: ${JSON.stringify(job)}, onFault: console.error }).close();
      process.exitCode = 3;`;
    const child = Bun.spawn([process.execPath, "-e", script], { env: { ...process.env, C10D_STATUS_DIR: "" } });
    expect(await child.exited).toBe(3);
    expect(other?.ranks().get(0)).toMatchObject({
      pid: child.pid,
      process: "gone",
      exitCode: 3,
      exitedAt: expect.any(Number),
    });
    other?.close();
    expect(readJobs().some(({ id }) => id === job)).toBe(false);
  });

  test("is missing, and the rank goes on, where there can be none", () => {
    const open = newJob("open");
    Bun.spawnSync(["chmod", "0755", open]);
    expect(withFolder(open, () => OwnStatus.open(plan("")))).toBeUndefined();
    expect(faults).toEqual([`other users can enter ${open} (mode 0755)`]);
    expect(withFolder("", () => OwnStatus.open(plan("../../tmp")))).toBeUndefined();
    expect(faults[1]).toBe('the id of the job is "../../tmp"');
  });
});

test("the state of a process", async () => {
  expect(processState(process.pid, processStart(process.pid))).toBeOneOf(["running", "sleeping"]);
  expect(processState(process.pid, processStart(process.pid) - 1)).toBe("gone");
  const child = Bun.spawn(["sleep", "30"]);
  child.kill("SIGSTOP");
  const limit = performance.now() + 5_000;
  while (processState(child.pid) !== "stopped" && performance.now() < limit) await Bun.sleep(5);
  expect(processState(child.pid)).toBe("stopped");
  child.kill("SIGKILL");
  await child.exited;
  expect(processState(child.pid)).toBe("gone");
});
