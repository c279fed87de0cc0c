import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CliProcess, endWithin, fixture, isAlive, runCli } from "./fixtures/cli-process.ts";

setDefaultTimeout(30_000);

const lines = (text: string) => text.trimEnd().split("\n");

describe("c10d run: ranks", () => {
  test("get their place in the job, the user's variables and their arguments", async () => {
    const args = ["run", "-n", "3", "--no-prefix", "--env", "A=1=2", "--env", "B="];
    const { exitCode, stdout } = await runCli([...args, fixture("print-env.ts")], {
      RANK: "77",
      OMP_NUM_THREADS: undefined,
      INHERITED: "yes",
    });
    expect(exitCode).toBe(0);
    const ranks = lines(stdout)
      .map((line) => JSON.parse(line) as Record<string, string>)
      .sort((a, b) => Number(a.RANK) - Number(b.RANK));
    expect(ranks.length).toBe(3);
    for (const [rank, env] of ranks.entries()) {
      expect(env).toMatchObject({
        RANK: String(rank),
        LOCAL_RANK: String(rank),
        WORLD_SIZE: "3",
        LOCAL_WORLD_SIZE: "3",
        GROUP_RANK: "0",
        GROUP_WORLD_SIZE: "1",
        ROLE_NAME: "default",
        ROLE_RANK: String(rank),
        ROLE_WORLD_SIZE: "3",
        MASTER_ADDR: "127.0.0.1",
        TORCHELASTIC_USE_AGENT_STORE: "True",
        TORCHELASTIC_RESTART_COUNT: "0",
        OMP_NUM_THREADS: "1",
        INHERITED: "yes",
        A: "1=2",
        B: "",
      });
      expect(Number(env.MASTER_PORT)).toBeGreaterThan(0);
      expect(env.MASTER_PORT).toBe(ranks[0]?.MASTER_PORT);
      expect(env.TORCHELASTIC_RUN_ID).toBe(ranks[0]?.TORCHELASTIC_RUN_ID);
    }
  });

  test("keep the user's OMP_NUM_THREADS", async () => {
    const { stdout } = await runCli(["run", "-n", "1", fixture("print-env.ts")], { OMP_NUM_THREADS: "3" });
    expect(JSON.parse(stdout)).toMatchObject({ OMP_NUM_THREADS: "3", WORLD_SIZE: "1" });
  });

  test("flags after the script belong to the script", async () => {
    const { stdout } = await runCli(["run", "-n", "1", fixture("hello.ts"), "-n", "9", "--help", "--", "x"]);
    expect(stdout).toBe("hello -n 9 --help -- x\n");
  });

  test("--no-bun runs any program", async () => {
    const { exitCode, stdout } = await runCli([
      "run",
      "-n",
      "2",
      "--no-bun",
      "sh",
      "-c",
      'echo "$RANK of $WORLD_SIZE"',
    ]);
    expect(exitCode).toBe(0);
    expect(lines(stdout).sort()).toEqual(["[rank 0] 0 of 2", "[rank 1] 1 of 2"]);
  });
});

describe("c10d run: secret of the store", () => {
  const secretsOf = (stdout: string) =>
    new Set(lines(stdout).map((line) => (JSON.parse(line) as Record<string, string>).C10D_STORE_SECRET));

  test("is new for each job, the same for all ranks, and not in the output", async () => {
    const seen = new Set<string | undefined>();
    for (let job = 0; job < 2; job++) {
      const { stdout, stderr } = await runCli(["run", "-n", "2", "--no-prefix", fixture("print-env.ts")]);
      const secrets = [...secretsOf(stdout)];
      expect(secrets).toHaveLength(1);
      expect(secrets[0]).toMatch(/^[0-9a-f]{64}$/);
      expect(stderr).not.toContain(secrets[0] ?? "");
      seen.add(secrets[0]);
    }
    expect(seen.size).toBe(2);
  });

  test("is taken from the launcher's environment if set there", async () => {
    const env = { C10D_STORE_SECRET: "mine" };
    const { stdout } = await runCli(["run", "-n", "1", fixture("print-env.ts")], env);
    expect([...secretsOf(stdout)]).toEqual(["mine"]);
    const { exitCode } = await runCli(["run", "-n", "2", fixture("meet.ts")], env);
    expect(exitCode).toBe(0);
  });

  test("keeps out a rank that does not know it: both sides say why", async () => {
    const script = `C10D_STORE_SECRET= exec '${process.execPath}' '${fixture("meet.ts")}'`;
    const { exitCode, stderr } = await runCli(["run", "-n", "1", "--no-bun", "sh", "-c", script]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain("SECRET_REQUIRED");
    expect(stderr).toMatch(
      /c10d run: the client of the store at 127\.0\.0\.1:\d+ was refused: .*the client speaks PyTorch's open protocol/,
    );
    expect(stderr).toContain("give --torch-compat");
  });

  test.each([
    ["with --torch-compat", ["--torch-compat"], {}],
    ["under torchrun", [], { TORCHELASTIC_ERROR_FILE: "/tmp/error.json" }],
    ["under torchrun --log-dir /dev/null", [], { TORCHELASTIC_ERROR_FILE: "" }],
  ])("is absent %s, with a warning", async (_, flags, env) => {
    const args = ["run", "-n", "2", "--no-prefix", ...flags];
    const { stdout } = await runCli([...args, fixture("print-env.ts")], { ...env, C10D_STORE_SECRET: "mine" });
    expect([...secretsOf(stdout)]).toEqual([""]);
    const { exitCode, stderr } = await runCli([...args, fixture("meet.ts")], env);
    expect(exitCode).toBe(0);
    expect(stderr).toMatch(/c10d run: the store at 127\.0\.0\.1:\d+ speaks PyTorch's open protocol/);
  });
});

describe("c10d run: store", () => {
  test("a rank that waits for the others is notified that one of them has another world size", async () => {
    const script = `[ $RANK = 1 ] && sleep 0.5 && export WORLD_SIZE=3; exec '${process.execPath}' '${fixture("disagree.ts")}'`;
    const { exitCode, stdout } = await runCli(["run", "-n", "2", "--no-prefix", "--no-bun", "sh", "-c", script]);
    expect(exitCode).toBe(0);
    const failures = lines(stdout).map((line) => JSON.parse(line) as { code: string; message: string; ms: number });
    expect(failures).toHaveLength(2);
    for (const { code, message, ms } of failures) {
      expect(code).toBe("WORLD_SIZE_MISMATCH");
      expect(message).toContain("rank 0 has 2, rank 1 has 3");
      // Before the time-out of 20 s.
      expect(ms).toBeLessThan(8_000);
    }
  });

  test("is hosted by the launcher, on the port that the ranks receive", async () => {
    const { exitCode, stdout } = await runCli(["run", "-n", "3", fixture("meet.ts")]);
    expect(exitCode).toBe(0);
    expect(lines(stdout).sort()).toEqual([0, 1, 2].map((rank) => `[rank ${rank}] 3 ranks, next is ${(rank + 1) % 3}`));
  });

  test("answers while the output of the job is not read", async () => {
    await using cli = new CliProcess(["run", "-n", "2", fixture("flood.ts")], {}, { read: "stderr" });
    for (const end = performance.now() + 10_000; !cli.stderr.includes("done"); await Bun.sleep(5)) {
      expect(performance.now()).toBeLessThan(end);
    }
    const slowest = Number(/slowest (\d+) ms/.exec(cli.stderr)?.[1]);
    expect(slowest).toBeLessThan(1_000);
  });

  test("on a port in use is an error, and no rank starts", async () => {
    using taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const { exitCode, stdout, stderr } = await runCli([
      ...["run", "-n", "2", "--master-port", String(taken.port), fixture("hello.ts")],
    ]);
    expect([exitCode, stdout]).toEqual([1, ""]);
    expect(stderr).toContain(`c10d run: DistNetworkError: the store server cannot listen on 127.0.0.1:${taken.port}`);
  });
});

describe("c10d run: output", () => {
  test("consists of whole lines with the prefix of the rank, on the stream it was written to", async () => {
    const { exitCode, stdout, stderr } = await runCli(["run", "-n", "3", fixture("write-pieces.ts")]);
    expect(exitCode).toBe(0);
    for (const [name, text] of [
      ["out", stdout],
      ["err", stderr],
    ] as const) {
      const byRank = Map.groupBy(lines(text), (line) => line.slice(0, "[rank 0] ".length));
      expect([...byRank.keys()].sort()).toEqual(["[rank 0] ", "[rank 1] ", "[rank 2] "]);
      for (const [prefix, found] of byRank) {
        const rank = prefix.at(6);
        const written = Array.from({ length: 500 }, (_, i) => `${name} ${rank} ${i} ${"é".repeat(i % 60)}.`);
        expect(found).toEqual([...written, `last ${rank}`].map((line) => prefix + line));
      }
    }
  });

  test("standard input goes to rank 0", async () => {
    await using cli = new CliProcess(["run", "-n", "2", "--no-bun", "cat"], {}, { input: "for rank 0" });
    expect(await cli.exitCode()).toBe(0);
    expect(cli.stdout).toBe("[rank 0] for rank 0\n");
  });

  test("has no prefix with a single rank, or with --no-prefix", async () => {
    expect((await runCli(["run", "-n", "1", fixture("hello.ts"), "a"])).stdout).toBe("hello a\n");
    expect((await runCli(["run", "-n", "2", "--no-prefix", fixture("hello.ts")])).stdout).toBe("hello\nhello\n");
  });

  test("without a reader ends the job as SIGPIPE does", async () => {
    await using cli = new CliProcess(["run", "-n", "2", "--no-bun", "sh", "-c", "echo pid $$; sleep 0.5; exec yes"]);
    const pids = await cli.pids(2);
    await cli.stopReading();
    expect(await cli.exitCode()).toBe(128 + 13);
    expect(pids.filter(isAlive)).toEqual([]);
  });
});

describe("c10d run: failure", () => {
  test("the final report names the rank that threw, its error, pid and exit code; the others are stopped", async () => {
    await using cli = new CliProcess(["run", "-n", "4", fixture("fail.ts"), "2", "throw", "1000"]);
    const pids = await cli.pids(4);
    expect(await cli.exitCode()).toBe(1);
    expect(pids.filter(isAlive)).toEqual([]);
    const block = cli.stderr.slice(cli.stderr.indexOf("c10d run:"));
    const pid = /\[rank 2\] pid (\d+)/.exec(cli.stdout)?.[1];
    expect(block).toContain(`rank 2 failed first: exit code 1, pid ${pid}`);
    expect(block).toContain("ranks 0, 1, 3 were stopped\n");
    expect(block).toContain("boom in rank 2");
    expect(block).not.toContain("[rank 2]");
  });

  test("the exit code of the first failing rank is the launcher's", async () => {
    const { exitCode, stderr } = await runCli(["run", "-n", "2", fixture("fail.ts"), "1", "42"]);
    expect(exitCode).toBe(42);
    expect(stderr).toContain("rank 1 failed first: exit code 42");
    expect(stderr).toContain("it wrote nothing to stderr");
  });

  test("when a signal ends a rank, the exit code is 128 + its number", async () => {
    const { exitCode, stderr } = await runCli(["run", "-n", "2", fixture("fail.ts"), "0", "SIGKILL"]);
    expect(exitCode).toBe(137);
    expect(stderr).toContain("rank 0 failed first: signal SIGKILL (exit code 137)");
  });

  test("a single rank is reported too", async () => {
    const { exitCode, stderr } = await runCli(["run", "-n", "1", fixture("fail.ts"), "0", "throw"]);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/c10d run: rank 0 failed first: exit code 1[\s\S]*boom in rank 0/);
  });

  test("the report repeats the last 20 lines of a long stderr", async () => {
    const text = Array.from({ length: 80 }, (_, i) => `line ${i}`).join("\n");
    const { stderr } = await runCli(["run", "-n", "2", fixture("fail.ts"), "1", "3", "0", text]);
    const block = stderr.slice(stderr.indexOf("last lines of the stderr"));
    expect(lines(block).slice(1)).toEqual(Array.from({ length: 50 }, (_, i) => `  line ${i + 30}`));
  });

  test("the report names the rank that caused the failure, not the one that noticed it and ended sooner", async () => {
    const { exitCode, stderr } = await runCli(["run", "-n", "4", fixture("blame.ts")]);
    expect(exitCode).toBe(1);
    const block = stderr.slice(stderr.indexOf("c10d run:"));
    expect(block).toContain("rank 2 failed first: exit code 1");
    expect(block).toContain("the true cause");
    expect(block).toContain("ranks 1, 3 were stopped\n");
  });

  test("when all blame a peer, the report names the first to end", async () => {
    const { exitCode, stderr } = await runCli([
      ...["run", "-n", "2", fixture("fail.ts"), "0", "5", "0"],
      "DistTimeoutError: allReduce #1 timed out",
    ]);
    expect(exitCode).toBe(5);
    expect(stderr).toContain("rank 0 failed first: exit code 5");
  });

  test("a rank that ignores SIGTERM is killed after the grace period", async () => {
    const script = `echo pid $$; if [ $RANK = 0 ]; then sleep 0.3; exit 9; fi; trap "" TERM; while :; do sleep 1; done`;
    const started = performance.now();
    await using cli = new CliProcess(["run", "-n", "2", "--grace", "400ms", "--no-bun", "sh", "-c", script]);
    const pids = await cli.pids(2);
    expect(await cli.exitCode()).toBe(9);
    expect(performance.now() - started).toBeGreaterThan(700);
    expect(cli.stderr).toContain("rank 1 was stopped; rank 1 did not end in time and had to be killed");
    expect(pids.filter(isAlive)).toEqual([]);
  });

  test("--timeout ends the job with 124 and reports which ranks were still running", async () => {
    const script = "echo pid $$; [ $RANK = 1 ] || exec sleep 60";
    await using cli = new CliProcess(["run", "-n", "3", "--timeout", "500ms", "--no-bun", "sh", "-c", script]);
    const pids = await cli.pids(3);
    expect(await cli.exitCode()).toBe(124);
    expect(cli.stderr).toContain("the job timed out: ranks 0, 2 had not ended after 0.5 s (--timeout)");
    expect(pids.filter(isAlive)).toEqual([]);
  });
});

describe("c10d run: signals", () => {
  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const)("%s is forwarded once to each rank, and the exit code is %d", async (signal, code) => {
    await using cli = new CliProcess(["run", "-n", "2", fixture("wait.ts")]);
    const pids = await cli.pids(2);
    cli.signal(signal);
    expect(await cli.exitCode()).toBe(code);
    expect(
      lines(cli.stdout)
        .filter((line) => line.includes("got"))
        .sort(),
    ).toEqual([`[rank 0] got ${signal}`, `[rank 1] got ${signal}`]);
    expect(cli.stderr).toBe(`c10d run: ended by ${signal}; ranks 0, 1 were stopped\n`);
    expect(pids.filter(isAlive)).toEqual([]);
  });

  test("a signal to the launcher's whole process group, as from a terminal, reaches each rank once", async () => {
    // setsid makes the launcher the leader of its own group.
    await using cli = new CliProcess(["run", "-n", "2", fixture("wait.ts")], {}, { within: ["setsid"] });
    const pids = await cli.pids(2);
    process.kill(-cli.pid, "SIGINT");
    expect(await cli.exitCode()).toBe(130);
    const got = lines(cli.stdout).filter((line) => line.includes("got"));
    expect(got.sort()).toEqual(["[rank 0] got SIGINT", "[rank 1] got SIGINT"]);
    expect(cli.stderr).toBe("c10d run: ended by SIGINT; ranks 0, 1 were stopped\n");
    expect(pids.filter(isAlive)).toEqual([]);
  });

  test("a second SIGINT kills", async () => {
    await using cli = new CliProcess(["run", "-n", "2", "--grace", "1h", fixture("wait.ts"), "--stubborn"]);
    const pids = await cli.pids(2);
    cli.signal("SIGINT");
    await Bun.sleep(200);
    expect(pids.filter(isAlive)).toEqual(pids);
    cli.signal("SIGINT");
    expect(await cli.exitCode()).toBe(130);
    expect(cli.stderr).toContain("ranks 0, 1 did not end in time and had to be killed");
    expect(pids.filter(isAlive)).toEqual([]);
  });
});

describe("c10d run: leaves nothing behind", () => {
  test.each([0, 3])("no children of ranks that ended with %d", async (code) => {
    const started = performance.now();
    await using cli = new CliProcess(["run", "-n", "2", fixture("leave-child.ts"), String(code)]);
    expect(await cli.exitCode()).toBe(code);
    expect(performance.now() - started).toBeLessThan(5_000);
    expect(await endWithin(await cli.pids(1), 2_000)).toBe(true);
  });

  test("no ranks of a launcher that was killed, not even stubborn ones", async () => {
    await using cli = new CliProcess(["run", "-n", "2", "--grace", "300ms", fixture("wait.ts"), "--stubborn"]);
    const pids = await cli.pids(2);
    cli.signal("SIGKILL");
    expect(await endWithin(pids, 5_000)).toBe(true);
  });

  test("a process that left the session of its rank cannot hold up the launcher", async () => {
    // The rank ends once the child has left, and the child keeps the rank's output open.
    const script = `exec 3>&1; pid=$(setsid sh -c 'echo $$; exec sleep 60 >&3' &); echo pid $pid`;
    await using cli = new CliProcess(["run", "-n", "2", "--no-bun", "sh", "-c", script]);
    const pids = await cli.pids(2);
    try {
      expect(await endWithin([cli.pid], 5_000)).toBe(true);
      expect(await cli.exitCode()).toBe(0);
    } finally {
      for (const pid of pids) process.kill(pid, "SIGKILL");
    }
  });
});

describe("c10d run: wrong usage", () => {
  test.each([
    [["-n", "0", "x.ts"], '-n must be an integer of at least 1, got "0"'],
    [["-n", "x", "x.ts"], '-n must be an integer of at least 1, got "x"'],
    [["-n", "1.5", "x.ts"], "-n must be an integer of at least 1"],
    [["x.ts"], "-n is missing"],
    [["-n", "2"], "no script given"],
    [["-n", "2", "/nowhere/script.ts"], "no such script: /nowhere/script.ts"],
    [["-n", "2", "python3"], "give --no-bun to run another program"],
    [["-n", "2", "--no-bun", "c10d-no-such-program"], "no such program: c10d-no-such-program"],
    [["-n", "2", "--wat", "x.ts"], "Unknown option '--wat'\n"],
    [["--nproc_per_node", "2", "x.ts"], "Unknown option '--nproc_per_node'; did you mean \"--nproc-per-node\"?"],
    [
      ["-n", "2", "--timeout", "soon", fixture("hello.ts")],
      '--timeout must be a time such as 500ms, 30s or 5m, got "soon"',
    ],
    [["-n", "2", "--grace", "0s", fixture("hello.ts")], "--grace must be a time"],
    [["-n", "2", "--master-port", "70000", fixture("hello.ts")], "--master-port must be an integer from 0 to 65535"],
    [["-n", "2", "--env", "=x", fixture("hello.ts")], "--env must be NAME=value"],
    [["-n", "2", "--env", "RANK=1", fixture("hello.ts")], "--env cannot set RANK"],
  ])("%j", async (args, message) => {
    const { exitCode, stdout, stderr } = await runCli(["run", ...args]);
    expect(stderr).toContain(message);
    expect(stderr).toContain('Try "c10d run --help"');
    expect(stdout).toBe("");
    expect(exitCode).toBe(2);
  });
});

test("a program that the system cannot start is an error that names the program, without a stack trace", async () => {
  const folder = mkdtempSync(join(tmpdir(), "c10d-run-"));
  const file = join(folder, "program");
  writeFileSync(file, "#!/nonexistent/interpreter\n", { mode: 0o755 });
  const { exitCode, stderr } = await runCli(["run", "-n", "2", "--no-bun", file]);
  rmSync(folder, { recursive: true });
  expect(exitCode).toBe(1);
  expect(stderr).toStartWith(`c10d run: DistError: cannot start rank 0 (${file}): ENOENT`);
  expect(stderr).not.toMatch(/\n\s+at /);
});
