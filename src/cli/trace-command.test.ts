import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { interruptedWrite } from "../files/fixtures/interrupted-write.ts";
import { pickle, unpickle } from "../pickle/index.ts";
import { MadeJob } from "../trace/fixtures/made-job.ts";
import { runCli } from "./fixtures/cli-process.ts";

setDefaultTimeout(30_000);

const folder = mkdtempSync(join(tmpdir(), "c10d-trace-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string): string => join(folder, name);

function write(name: string, job: MadeJob, skip: readonly number[] = []): void {
  mkdirSync(at(name));
  for (const rank of job.ranks) {
    if (!skip.includes(rank.rank)) writeFileSync(join(at(name), `rank_${rank.rank}`), pickle(rank.dump()));
  }
}

beforeAll(() => {
  const healthy = new MadeJob(3);
  healthy.all();
  write("healthy", healthy);
  const hang = new MadeJob(3);
  hang.group("1", "evens", [0, 2]);
  hang.all({ group: "1" });
  hang.all({ state: "scheduled", at: 10_000 }, [0, 1]);
  write("hang", hang);
  write("absent", healthy, [2]);
  write("broken", healthy);
  writeFileSync(join(at("broken"), "rank_1"), "cos\nsystem\n(S'touch pwned'\ntR.");
});

const verdict = "group 0 (default_pg): rank 2 has not called all_reduce #1; ranks 0, 1 have waited in it";

describe("c10d trace", () => {
  test.each([
    ["healthy", 0, "All ranks agree: 3 dumps with 3 ops."],
    ["hang", 1, verdict],
    ["absent", 1, "The dumps that can be read agree: 2 dumps with 2 ops.\n\nNo dump of rank 2."],
    ["broken", 1, "rank_1 is no dump: cannot read the pickle: it is more than plain data"],
  ])("of the dumps of a folder: %s", async (name, code, text) => {
    const { exitCode, stdout, stderr } = await runCli(["trace", at(name)]);
    expect([exitCode, stderr]).toEqual([code, ""]);
    expect(stdout.replaceAll("\n  ", " ").replaceAll(/(\S)\n(?=\S)/g, "$1 ")).toContain(
      text.replaceAll(/(\S)\n(?=\S)/g, "$1 "),
    );
  });

  test("of what the names start with, of files, and of the newest file of a rank", async () => {
    expect((await runCli(["trace", at("hang/rank_")])).exitCode).toBe(1);
    expect((await runCli(["trace", ...[0, 1, 2].map((rank) => at(`healthy/rank_${rank}`))])).exitCode).toBe(0);
    const { exitCode, stdout } = await runCli(["trace", at("healthy"), at("absent/rank_0")]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain("Not looked at, since a rank has a newer one:");
  });

  test("of two jobs: that of the newest dump", async () => {
    const [earlier, later] = [new MadeJob(3, "a/0/0"), new MadeJob(2, "b/0/0")];
    earlier.all({ name: "broadcast" });
    later.all();
    for (const { rank } of later.ranks) later.rank(rank).dumpedAt += 1;
    write("jobs", earlier);
    for (const { rank, dump } of later.ranks.map((each) => ({ rank: each.rank, dump: each.dump() })))
      writeFileSync(join(at("jobs"), `later_${rank}`), pickle(dump));
    const { exitCode, stdout } = await runCli(["trace", at("jobs")]);
    expect(stdout).toStartWith("All ranks agree: 2 dumps with 2 ops.");
    expect(stdout.replaceAll(/\s+/g, " ")).toContain(
      `Not looked at, since the newest dump is of another job, or of a later world of the same one: ${at("jobs/rank_0")},`,
    );
    expect(exitCode).toBe(0);
    const json = JSON.parse((await runCli(["trace", "--json", at("jobs")])).stdout);
    expect(json.ofOtherJobs).toEqual([0, 1, 2].map((rank) => at(`jobs/rank_${rank}`)));
    // Where dumps do not say of which job they are, nothing is left out.
    const more = new MadeJob(3);
    more.all();
    writeFileSync(join(at("jobs"), "more_2"), pickle(more.rank(2).dump()));
    expect(JSON.parse((await runCli(["trace", "--json", at("jobs")])).stdout).ranks).toHaveLength(3);
  });

  test("reads nothing that a rank left behind which was killed while it wrote its dump", async () => {
    const ranks = new MadeJob(2);
    ranks.all();
    write("killed", ranks);
    for (let i = 0; i < 4; i++) await interruptedWrite(at("killed/rank_2"));
    for (const path of [at("killed"), at("killed/rank_")]) {
      const { exitCode, stdout } = await runCli(["trace", path]);
      expect(stdout).toStartWith("All ranks agree: 2 dumps with 2 ops.");
      expect(exitCode).toBe(0);
    }
  });

  test("--json, also after the files", async () => {
    for (const args of [
      ["--json", at("hang")],
      [at("hang"), "--json"],
    ]) {
      const { exitCode, stdout } = await runCli(["trace", ...args]);
      expect(exitCode).toBe(1);
      const value = JSON.parse(stdout);
      expect(value.findings).toMatchObject([{ kind: "missing", group: "0", seq: 1, ranks: [2] }]);
      expect([value.absent, value.unreadable]).toEqual([[], []]);
    }
  });

  test("--group and --last", async () => {
    const one = await runCli(["trace", at("hang"), "--group", "evens", "--last", "1"]);
    expect(one.exitCode).toBe(0);
    expect(one.stdout).toContain("Rank 2, newest last (rank_2):\n  all_reduce #1");
    const other = await runCli(["trace", at("hang"), "--group", "odds"]);
    expect([other.exitCode, other.stdout]).toEqual([2, ""]);
    expect(other.stderr).toContain('no group has the name "odds"; there are "0", "1"');
  });

  test("--chrome writes one timeline, or one of each rank to a folder", async () => {
    mkdirSync(at("timelines"));
    expect((await runCli(["trace", at("healthy"), "--chrome", at("all.json")])).exitCode).toBe(0);
    expect((await runCli(["trace", at("healthy"), "--chrome", at("timelines")])).exitCode).toBe(0);
    const all = JSON.parse(readFileSync(at("all.json"), "utf8"));
    expect(new Set(all.traceEvents.map(({ pid }: { pid: number }) => pid))).toEqual(new Set([0, 1, 2]));
    expect(readdirSync(at("timelines")).sort()).toEqual(["rank_0.json", "rank_1.json", "rank_2.json"]);
    const one = JSON.parse(readFileSync(join(at("timelines"), "rank_2.json"), "utf8"));
    expect(one.distributedInfo).toMatchObject({ rank: 2, world_size: 3 });
    expect(new Set(one.traceEvents.map(({ pid }: { pid: number }) => pid))).toEqual(new Set([2]));
    expect(statSync(at("all.json")).mode & 0o777).toBe(0o600);
  });

  test("--pickle writes dumps for PyTorch's torchfrtrace", async () => {
    mkdirSync(at("pickles"));
    expect((await runCli(["trace", at("healthy"), "--pickle", at("pickles")])).exitCode).toBe(0);
    expect(readdirSync(at("pickles")).sort()).toEqual(["rank_0", "rank_1", "rank_2"]);
    const dump = unpickle(readFileSync(join(at("pickles"), "rank_1"))) as Map<string, unknown>;
    expect(dump.get("version")).toBe("2.10");
    expect(dump.get("entries")).toHaveLength(1);
  });

  test("does not write over the dumps that it reads, by whatever name", async () => {
    write("kept", new MadeJob(2));
    writeFileSync(at("kept/notes"), "");
    symlinkSync(at("kept/rank_0"), at("kept-link.json"));
    const before = [0, 1].map((rank) => readFileSync(at(`kept/rank_${rank}`)));
    for (const [flag, out, named] of [
      ["--chrome", at("kept/rank_0"), at("kept/rank_0")],
      ["--chrome", at("kept-link.json"), at("kept-link.json")],
      ["--pickle", at("kept"), at("kept/rank_0")],
    ] as const) {
      const { exitCode, stderr } = await runCli(["trace", at("kept"), flag, out]);
      expect(stderr).toContain(`${flag} would overwrite ${named}, which is one of the dumps; name another place`);
      expect(exitCode).toBe(2);
    }
    expect([0, 1].map((rank) => readFileSync(at(`kept/rank_${rank}`)))).toEqual(before);
    expect((await runCli(["trace", at("kept"), "--chrome", at("kept/notes")])).stderr).toBe("");
  });

  test("a place that cannot be written to is named", async () => {
    const out = at("no-such-folder/out.json");
    const { exitCode, stdout, stderr } = await runCli(["trace", at("healthy"), "--chrome", out]);
    expect(stderr).toStartWith(`c10d trace: --chrome: ${out} cannot be written: ENOENT`);
    expect([exitCode, stdout]).toEqual([2, ""]);
  });

  test.each([
    [[], "no files given"],
    [["/dev/zero"], "/dev/zero is neither a file nor a folder\n"],
    [["nothing-here"], "nothing-here is neither a file nor a folder, and no files have this name with a rank added"],
    [[import.meta.dir, "--last", "x"], '--last must be a number of ops, got "x"'],
    [[import.meta.dir, "--lats", "x"], "Unknown option '--lats'"],
    [[folder, "--pickle", "nothing-here"], "--pickle needs a folder, and nothing-here is none"],
  ])("%j is wrong usage", async (args, message) => {
    const { exitCode, stdout, stderr } = await runCli(["trace", ...args]);
    expect(stderr).toContain(message);
    expect([exitCode, stdout]).toEqual([2, ""]);
  });

  test("files that are no dumps, or that do not end, leave those of the other ranks as they are", async () => {
    const job = new MadeJob(3);
    job.all();
    write("hostile", job, [1, 2]);
    writeFileSync(at("hostile/rank_1"), "");
    writeFileSync(at("hostile/rank_2"), "");
    truncateSync(at("hostile/rank_2"), 300 * 2 ** 30);
    symlinkSync("/dev/zero", at("hostile/rank_3"));
    symlinkSync("/proc/self/mem", at("hostile/rank_4"));
    mkdirSync(at("hostile/rank_5"));
    const { exitCode, stdout } = await runCli(["trace", "--json", at("hostile")]);
    const { findings, absent, ranks, unreadable } = JSON.parse(stdout);
    expect([exitCode, findings, absent]).toEqual([1, [], [1, 2]]);
    expect(ranks).toHaveLength(1);
    expect(unreadable).toEqual([
      { file: at("hostile/rank_1"), reason: "it is empty" },
      { file: at("hostile/rank_2"), reason: "it has more than 268435456 bytes" },
      { file: at("hostile/rank_4"), reason: expect.stringContaining("EIO") },
    ]);
  });

  test("a folder without dumps", async () => {
    const { exitCode, stdout } = await runCli(["trace", folder]);
    expect([exitCode, stdout]).toEqual([1, "There is no dump.\n"]);
  });
});
