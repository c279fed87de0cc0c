import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { TCPStoreServer } from "../store/index.ts";
import { CliProcess, fixture, isAlive, runCli } from "./fixtures/cli-process.ts";

setDefaultTimeout(30_000);

interface Line {
  readonly rank: number;
  readonly attempt: number;
  readonly of: number;
  readonly sum: number;
  readonly stale: readonly boolean[];
  readonly port: number;
}

const results = (stdout: string): Line[] =>
  stdout
    .trimEnd()
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as Line)
    .sort((a, b) => a.rank - b.rank);

describe("c10d run --max-restarts", () => {
  test("restarts all ranks with an empty store", async () => {
    const args = ["run", "-n", "3", "--no-prefix", "--max-restarts", "3", fixture("restart.ts"), "1", "2"];
    const { exitCode, stdout, stderr } = await runCli(args);
    expect(stderr).toContain("c10d run: starting all ranks again (restart 1 of 3)");
    expect(stderr).toContain("c10d run: starting all ranks again (restart 2 of 3)");
    expect(stderr.match(/rank 1 failed first: exit code 9/g)).toHaveLength(2);
    expect(exitCode).toBe(0);
    expect(results(stdout)).toMatchObject(
      [0, 1, 2].map((rank) => ({ rank, attempt: 2, of: 3, sum: 6, stale: [false, false] })),
    );
  });

  test("keeps a port that was given", async () => {
    const port = await freePort();
    const flags = ["--no-prefix", "--max-restarts", "1", "--master-port", String(port)];
    const { exitCode, stdout } = await runCli(["run", "-n", "2", ...flags, fixture("restart.ts"), "0", "1"]);
    expect(exitCode).toBe(0);
    expect(results(stdout).map((line) => [line.attempt, line.port])).toEqual([
      [1, port],
      [1, port],
    ]);
  });

  test("each attempt has its own secret", async () => {
    const script = 'echo "secret $C10D_STORE_SECRET"; [ "$TORCHELASTIC_RESTART_COUNT" = 1 ]';
    const { exitCode, stdout } = await runCli([
      "run",
      "-n",
      "1",
      "--max-restarts",
      "1",
      "--no-bun",
      "sh",
      "-c",
      script,
    ]);
    expect(exitCode).toBe(0);
    expect(new Set(stdout.match(/secret [0-9a-f]{64}/g)).size).toBe(2);
  });

  test("the failure of the last attempt ends the job", async () => {
    const script =
      "echo pid $$; [ $RANK = 0 ] && sleep 0.2 && exit $((10 + TORCHELASTIC_RESTART_COUNT)); exec sleep 60";
    await using cli = new CliProcess(["run", "-n", "2", "--max-restarts", "2", "--no-bun", "sh", "-c", script]);
    expect(await cli.exitCode()).toBe(12);
    const pids = await cli.pids(6);
    expect(pids).toHaveLength(6);
    expect(pids.filter(isAlive)).toEqual([]);
    for (const code of [10, 11, 12]) expect(cli.stderr).toContain(`rank 0 failed first: exit code ${code}`);
    expect(cli.stderr.match(/starting all ranks again/g)).toHaveLength(2);
  });

  test("a signal to the launcher and --timeout end the job, even with restarts left", async () => {
    await using cli = new CliProcess(["run", "-n", "2", "--max-restarts", "5", fixture("wait.ts")]);
    await cli.pids(2);
    cli.signal("SIGTERM");
    expect(await cli.exitCode()).toBe(143);
    const { exitCode, stderr } = await runCli([
      ...[
        "run",
        "-n",
        "1",
        "--max-restarts",
        "1000",
        "--timeout",
        "700ms",
        "--no-bun",
        "sh",
        "-c",
        "sleep 0.2; exit 1",
      ],
    ]);
    expect(exitCode).toBe(124);
    expect(stderr).toContain("starting all ranks again (restart 1 of 1000)");
  });
});

async function freePort(): Promise<number> {
  await using server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0 });
  return server.port;
}
