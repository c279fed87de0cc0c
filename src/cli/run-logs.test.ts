import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  linkSync,
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
import { dirname, join } from "node:path";
import { giveAway, otherUser, testAsRoot } from "../files/fixtures/other-user.ts";
import { fixture, runCli } from "./fixtures/cli-process.ts";

setDefaultTimeout(30_000);

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "c10d-logs-"));
});
afterEach(() => {
  chmodSync(folder, 0o700);
  rmSync(folder, { recursive: true });
});

const files = () => [...new Bun.Glob("**/*").scanSync({ cwd: folder })].sort();
const text = (path: string) => readFileSync(join(folder, path), "utf8");
const script = 'printf "out $RANK\\r\\nend"; echo "err $RANK" >&2; [ "$TORCHELASTIC_RESTART_COUNT" = 1 ]';
const shell = ["--no-bun", "sh", "-c", script];

describe("c10d run --log-dir", () => {
  test("receives what each rank writes, byte for byte; nothing is printed", async () => {
    const { exitCode, stdout } = await runCli([
      ...["run", "-n", "2", "--log-dir", folder, "--rdzv-id", "job-7", "--max-restarts", "1", ...shell],
    ]);
    expect([exitCode, stdout]).toEqual([0, ""]);
    const ranks = [0, 1].flatMap((rank) => [`${rank}/stderr.log`, `${rank}/stdout.log`]);
    expect(files()).toEqual([0, 1].flatMap((attempt) => ranks.map((path) => `job-7/attempt_${attempt}/${path}`)));
    for (const rank of [0, 1]) {
      expect(text(`job-7/attempt_1/${rank}/stdout.log`)).toBe(`out ${rank}\r\nend`);
      expect(text(`job-7/attempt_1/${rank}/stderr.log`)).toBe(`err ${rank}\n`);
    }
  });

  test("receives output of any length", async () => {
    const flood = ["--no-bun", "sh", "-c", "seq 1 300000"];
    const { exitCode } = await runCli(["run", "-n", "2", "--log-dir", folder, ...flood]);
    expect(exitCode).toBe(0);
    const expected = Array.from({ length: 300_000 }, (_, i) => `${i + 1}\n`).join("");
    for (const path of files().filter((name) => name.endsWith("stdout.log")))
      expect(text(path) === expected).toBe(true);
  });

  test("a failure is still reported, with the end of stderr and the place of the files", async () => {
    const { exitCode, stderr } = await runCli([
      ...["run", "-n", "2", "--log-dir", folder, fixture("fail.ts"), "1", "throw", "200"],
    ]);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/rank 1 failed first: exit code 1[\s\S]*boom in rank 1/);
    const logs = /log files: (.*)/.exec(stderr)?.[1] ?? "";
    expect(readFileSync(join(logs, "1", "stderr.log"), "utf8")).toContain("boom in rank 1");
  });

  // Both ranks fail, and the first may end the other before that has written anything.
  test.each([
    ["1", "stdout.log", /\[rank (\d)\] err \1$/m],
    ["2", "stderr.log", /\[rank (\d)\] out \1$/m],
  ])("--redirects %s writes one stream to files", async (which, name, printed) => {
    const { stdout, stderr } = await runCli(["run", "-n", "2", "--log-dir", folder, "-r", which, ...shell]);
    expect(files().every((path) => path.endsWith(name))).toBe(true);
    expect(files()).toHaveLength(2);
    expect(stdout + stderr).toMatch(printed);
    expect(which === "1" ? stdout : "").toBe("");
  });

  test("--tee also prints the output, even for a single rank", async () => {
    const { stdout } = await runCli(["run", "-n", "1", "--log-dir", folder, "--tee", fixture("hello.ts"), "there"]);
    expect(stdout).toBe("hello there\n");
    expect(
      files()
        .filter((path) => path.endsWith("stdout.log"))
        .map(text),
    ).toEqual(["hello there\n"]);
  });

  test("a folder that cannot be written to is an error before any rank starts", async () => {
    const taken = join(folder, "file");
    await Bun.write(taken, "");
    const { exitCode, stdout, stderr } = await runCli(["run", "-n", "2", "--log-dir", taken, fixture("hello.ts")]);
    expect([exitCode, stdout]).toEqual([2, ""]);
    expect(stderr).toContain("--log-dir: cannot create the log file");
  });

  describe("where others can write", () => {
    const logs = () => join(folder, "logs");
    const run = () =>
      runCli(["run", "-n", "1", "--log-dir", logs(), "--rdzv-id", "job-7", "--no-bun", "echo", "logged"]);
    const file = () => join(logs(), "job-7/attempt_0/0/stdout.log");
    const mode = (path: string) => statSync(path).mode & 0o7777;

    test("only this user can read what is created", async () => {
      expect((await run()).exitCode).toBe(0);
      expect(readFileSync(file(), "utf8")).toBe("logged\n");
      for (let path = dirname(file()); path !== folder; path = dirname(path)) expect(mode(path)).toBe(0o700);
      expect(mode(file())).toBe(0o600);
      chmodSync(logs(), 0o755);
      expect((await run()).exitCode).toBe(0);
      expect([mode(logs()), readFileSync(file(), "utf8")]).toEqual([0o755, "logged\n"]);
    });

    test("a symbolic link is not followed, neither as a file nor as a folder", async () => {
      const victim = join(folder, "victim");
      writeFileSync(victim, "precious");
      mkdirSync(dirname(file()), { recursive: true });
      symlinkSync(victim, file());
      expect((await run()).exitCode).toBe(0);
      expect(readFileSync(file(), "utf8")).toBe("logged\n");
      for (const part of ["job-7", "job-7/attempt_0", "job-7/attempt_0/0"]) {
        rmSync(logs(), { recursive: true });
        mkdirSync(dirname(join(logs(), part)), { recursive: true });
        mkdirSync(join(folder, "elsewhere"), { recursive: true });
        symlinkSync(join(folder, "elsewhere"), join(logs(), part));
        const { exitCode, stderr } = await run();
        expect(exitCode).toBe(2);
        expect(stderr).toContain(`${join(logs(), part)} is a symbolic link, and existed before.`);
        expect(readdirSync(join(folder, "elsewhere"))).toEqual([]);
      }
      expect(readFileSync(victim, "utf8")).toBe("precious");
    });

    test("an existing file is replaced, not written to", async () => {
      const victim = join(folder, "victim");
      writeFileSync(victim, "precious");
      mkdirSync(dirname(file()), { recursive: true });
      linkSync(victim, file());
      expect((await run()).exitCode).toBe(0);
      expect([readFileSync(victim, "utf8"), readFileSync(file(), "utf8")]).toEqual(["precious", "logged\n"]);
    });

    test("a folder that anyone can write to: one with a sticky bit, such as /tmp, works for a new id", async () => {
      mkdirSync(logs());
      chmodSync(logs(), 0o1777);
      expect((await run()).exitCode).toBe(0);
      chmodSync(logs(), 0o777);
      const { exitCode, stderr } = await run();
      expect(exitCode).toBe(2);
      expect(stderr).toContain(`--log-dir: cannot create the log file ${file()}: ${logs()} can be changed by anybody`);
      expect(stderr).not.toContain("    at ");
    });

    testAsRoot("folders of another user", async () => {
      for (const part of ["", "job-7", "job-7/attempt_0", "job-7/attempt_0/0"]) {
        mkdirSync(join(logs(), part), { recursive: true });
        if (part !== "") chmodSync(logs(), 0o1777);
        giveAway(join(logs(), part));
        const { exitCode, stderr } = await run();
        expect(exitCode).toBe(2);
        expect(stderr).toContain(`${join(logs(), part)} belongs to another user (uid ${otherUser})`);
        rmSync(logs(), { recursive: true });
      }
    });

    testAsRoot("a symbolic link of another user, as the folder itself", async () => {
      symlinkSync(folder, logs());
      giveAway(logs());
      expect((await run()).stderr).toContain(`${logs()} belongs to another user (uid ${otherUser})`);
    });
  });

  test.each([
    [["--tee"], "--tee needs --log-dir"],
    [["--redirects", "3"], "--redirects needs --log-dir"],
    [["--log-dir", ".", "--redirects", "0:1"], '--redirects must be 1, 2 or 3, got "0:1"'],
    [["--rdzv-id", "../x"], "--rdzv-id must be a folder name"],
    [["--max-restarts", "-1"], "--max-restarts"],
  ])("%j is wrong usage", async (flags, message) => {
    const { exitCode, stderr } = await runCli(["run", "-n", "1", ...flags, fixture("hello.ts")]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain(message);
  });
});

describe("c10d run --json", () => {
  interface Event {
    readonly event: string;
    readonly attempt: number;
  }
  const events = (stdout: string) =>
    stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Event);

  test("prints events as JSON lines; the output of the ranks goes to standard error", async () => {
    const { exitCode, stdout, stderr } = await runCli(["run", "-n", "2", "--json", "--max-restarts", "1", ...shell]);
    expect(exitCode).toBe(0);
    expect(stderr).toContain("[rank 1] out 1");
    const found = events(stdout);
    const order = found.map(({ event, attempt }) => `${event} ${attempt ?? ""}`.trim());
    // The other rank may end by itself before it is stopped, and after the failure is reported.
    expect(order.filter((name) => !name.startsWith("rankEnded"))).toEqual([
      "started 0",
      "failed 0",
      "restarted 1",
      "started 1",
      "finished",
    ]);
    expect(order.filter((name) => name === "rankEnded 1")).toHaveLength(2);
    expect(found[0]).toMatchObject({
      ...{ node: 0, nnodes: 1, worldSize: 2, masterAddr: "127.0.0.1", runId: expect.any(String) },
      ranks: [0, 1].map((rank) => ({ rank, localRank: rank, pid: expect.any(Number) })),
    });
    expect(found.find(({ event }) => event === "failed")).toMatchObject({
      cause: { kind: "rank", node: 0, exit: { exitCode: 1, pid: expect.any(Number) } },
    });
    expect(found.at(-1)).toMatchObject({ exitCode: 0, attempts: 2, time: expect.stringMatching(/^20\d\d-.*Z$/) });
  });

  test("the output of a single rank does not mix with the events", async () => {
    const { stdout, stderr } = await runCli(["run", "-n", "1", "--json", fixture("fail.ts"), "0", "5", "0", "oops"]);
    expect(events(stdout).map(({ event }) => event)).toEqual(["started", "rankEnded", "failed", "finished"]);
    expect(stderr).toContain("pid ");
    expect(stderr).toContain("oops");
  });
});
