import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeGloo } from "../backends/gloo/fixtures/availability.ts";
import { giveAway, otherUser, testAsRoot } from "../files/fixtures/other-user.ts";
import { TCPStoreServer } from "../store/index.ts";
import { CliProcess, endWithin, fixture, isAlive, runCli } from "./fixtures/cli-process.ts";

setDefaultTimeout(60_000);

const secret = { C10D_STORE_SECRET: "for this test" };
type Environment = Record<string, string | undefined>;

async function freeEndpoint(): Promise<string> {
  await using server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0 });
  return `127.0.0.1:${server.port}`;
}

/** Waits until a launcher listens there; by then it handles signals. */
async function listening(endpoint: string): Promise<void> {
  const { hostname, port } = new URL(`tcp://${endpoint}`);
  for (;;) {
    try {
      const socket = await Bun.connect({ hostname, port: Number(port), socket: { data() {} } });
      socket.end();
      return;
    } catch {
      await Bun.sleep(20);
    }
  }
}

/** Two launchers on this host that are the nodes of one job. */
class TwoNodes implements AsyncDisposable {
  private constructor(readonly nodes: readonly [CliProcess, CliProcess]) {}

  static async start(
    flags: readonly string[],
    program: readonly string[],
    env: Environment | readonly [Environment, Environment] = secret,
    own: readonly [readonly string[], readonly string[]] = [[], []],
  ): Promise<TwoNodes> {
    const endpoint = await freeEndpoint();
    const start = (node: 0 | 1) =>
      new CliProcess(
        [
          ...["run", "-n", "2", "--nnodes", "2", "--node-rank", String(node), "--rdzv-endpoint", endpoint],
          ...["--rdzv-timeout", "15s", ...flags, ...own[node], ...program],
        ],
        Array.isArray(env) ? env[node] : env,
      );
    return new TwoNodes([start(0), start(1)]);
  }

  exitCodes(): Promise<(number | null)[]> {
    return Promise.all(this.nodes.map((node) => node.exitCode()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.nodes.map((node) => node[Symbol.asyncDispose]()));
  }
}

const json = (text: string) =>
  text
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .sort((a, b) => Number(a.rank) - Number(b.rank));

describe("c10d run --nnodes 2", () => {
  test("the ranks of both nodes are one job, and know their places", async () => {
    await using job = await TwoNodes.start(["--no-prefix"], [fixture("nodes.ts")]);
    expect(await job.exitCodes()).toEqual([0, 0]);
    for (const [node, cli] of job.nodes.entries()) {
      expect(json(cli.stdout)).toEqual(
        [0, 1].map((local) => ({
          ...{ rank: node * 2 + local, sum: 10, rounds: 1, LOCAL_RANK: String(local), GROUP_RANK: String(node) },
          ...{ WORLD_SIZE: "4", LOCAL_WORLD_SIZE: "2", GROUP_WORLD_SIZE: "2", MASTER_ADDR: "127.0.0.1" },
        })),
      );
      expect(cli.stderr).toBe("");
    }
  });

  test("a node whose ranks are done waits for the others: their failure fails the job", async () => {
    const script = "[ $RANK = 3 ] && sleep 0.5 && echo late >&2 && exit 7; exit 0";
    await using job = await TwoNodes.start([], ["--no-bun", "sh", "-c", script]);
    expect(await job.exitCodes()).toEqual([7, 7]);
    for (const { stderr } of job.nodes) expect(stderr).toMatch(/rank 3 on node 1 \(.+\) failed first: exit code 7/);
    expect(job.nodes[0].stderr).toContain("  late\n");
  });

  test.each([0, 3])("the failure of rank %d ends the job on both nodes, which name it", async (rank) => {
    await using job = await TwoNodes.start([], [fixture("fail.ts"), String(rank), "throw", "700"]);
    const pids = (await Promise.all(job.nodes.map((node) => node.pids(2)))).flat();
    expect(await job.exitCodes()).toEqual([1, 1]);
    expect(pids.filter(isAlive)).toEqual([]);
    for (const { stderr } of job.nodes) {
      const node = Math.floor(rank / 2);
      expect(stderr).toMatch(new RegExp(`rank ${rank} on node ${node} \\(.+\\) failed first: exit code 1`));
      expect(stderr).toContain(`boom in rank ${rank}`);
    }
  });

  test("the report names the node that caused the failure, not the one whose ranks all noticed it first", async () => {
    const script =
      'case $RANK in [01]) echo "DistNetworkError: rank 2 disconnected" >&2; exit 7;; 2) sleep 0.6; echo the cause >&2; exit 3;; esac; exec sleep 60';
    await using job = await TwoNodes.start([], ["--no-bun", "sh", "-c", script]);
    expect(await job.exitCodes()).toEqual([3, 3]);
    for (const { stderr } of job.nodes) {
      expect(stderr).toMatch(/rank 2 on node 1 \(.+\) failed first: exit code 3/);
      expect(stderr).toContain("  the cause\n");
    }
  });

  test("--max-restarts restarts the ranks of both nodes, with a fresh store", async () => {
    await using job = await TwoNodes.start(["--no-prefix", "--max-restarts", "2"], [fixture("restart.ts"), "3", "2"]);
    expect(await job.exitCodes()).toEqual([0, 0]);
    for (const [node, cli] of job.nodes.entries()) {
      expect(json(cli.stdout)).toMatchObject(
        [0, 1].map((local) => ({ rank: node * 2 + local, attempt: 2, sum: 10, stale: [false, false] })),
      );
      expect(cli.stderr.match(/rank 3 on node 1 \(.+\) failed first: exit code 9/g)).toHaveLength(2);
    }
  });

  test.each([
    [0, "SIGINT", 130],
    [1, "SIGTERM", 143],
  ] as const)("a signal to the launcher of node %d, %s, ends both", async (node, signal, code) => {
    await using job = await TwoNodes.start([], [fixture("wait.ts")]);
    await Promise.all(job.nodes.map((each) => each.pids(2)));
    job.nodes[node].signal(signal);
    expect(await job.exitCodes()).toEqual([code, code]);
    for (const { stderr } of job.nodes) expect(stderr).toContain(`c10d run: ended by ${signal} on node ${node}; ranks`);
  });

  test.each([0, 1] as const)("the launcher of node %d is killed: the other names it soon", async (node) => {
    // Longer than the test may take: the loss is noticed without waiting for a heartbeat.
    await using job = await TwoNodes.start(["--node-timeout", "60s", "--grace", "500ms"], [fixture("nodes.ts"), "30"]);
    const pids = (await Promise.all(job.nodes.map((each) => each.pids(2)))).flat();
    const other = job.nodes[node === 0 ? 1 : 0];
    const started = performance.now();
    job.nodes[node].signal("SIGKILL");
    const code = await other.exitCode();
    expect(performance.now() - started).toBeLessThan(8_000);
    expect(code).toBe(1);
    expect(other.stderr).toMatch(new RegExp(`c10d run: node ${node} is lost: its launcher.* has disconnected`));
    expect(await endWithin(pids, 5_000)).toBe(true);
  });

  test("with three nodes, the remaining two name the one whose launcher is killed", async () => {
    const endpoint = await freeEndpoint();
    const start = (node: number) => {
      const place = ["--nnodes", "3", "--node-rank", String(node), "--rdzv-endpoint", endpoint];
      return new CliProcess(["run", "-n", "1", ...place, "--node-timeout", "60s", fixture("nodes.ts"), "30"], secret);
    };
    await using first = start(0);
    await using second = start(1);
    await using third = start(2);
    await Promise.all([first, second, third].map((each) => each.pids(1)));
    third.signal("SIGKILL");
    expect(await Promise.all([first.exitCode(), second.exitCode()])).toEqual([1, 1]);
    for (const { stderr } of [first, second]) {
      expect(stderr).toContain("c10d run: node 2 is lost: its launcher has disconnected");
    }
  });

  test.each([0, 1] as const)("the launcher of node %d is stopped: the other says which node is lost", async (node) => {
    await using job = await TwoNodes.start(["--node-timeout", "2s"], [fixture("wait.ts")]);
    await Promise.all(job.nodes.map((each) => each.pids(2)));
    const other = job.nodes[node === 0 ? 1 : 0];
    const started = performance.now();
    job.nodes[node].signal("SIGSTOP");
    try {
      expect(await other.exitCode()).toBe(1);
      expect(performance.now() - started).toBeLessThan(8_000);
      expect(other.stderr).toContain(`c10d run: node ${node} is lost: its launcher`);
    } finally {
      job.nodes[node].signal("SIGCONT");
    }
    // It learns of the verdict when it continues.
    expect(await job.nodes[node].exitCode()).toBe(1);
  });
});

describeGloo("a job that times out while only ranks of the other node run", () => {
  test("says which, and what they were doing", async () => {
    await using job = await TwoNodes.start(["--timeout", "8s", "--grace", "100ms"], [fixture("idle-node.ts")]);
    expect(await job.exitCodes()).toEqual([124, 124]);
    const [{ stderr }] = job.nodes;
    expect(stderr).toContain("the job timed out: ranks 2, 3 on other nodes had not ended after 8 s (--timeout)\n");
    for (const rank of [2, 3])
      expect(stderr).toMatch(
        new RegExp(`^  on \\S+, rank ${rank} \\(pid \\d+\\): in no op; the last, allReduce #1 `, "m"),
      );
  });
});

test("a launcher that fails ends the job on the other node, too", async () => {
  const folder = mkdtempSync(join(tmpdir(), "c10d-nodes-"));
  try {
    const taken = join(folder, "file");
    await Bun.write(taken, "");
    await using job = await TwoNodes.start([], [fixture("wait.ts")], secret, [[], ["--log-dir", taken]]);
    expect(await job.exitCodes()).toEqual([1, 2]);
    expect(job.nodes[0].stderr).toContain("node 1 is lost: its launcher failed");
    expect(job.nodes[1].stderr).toContain("--log-dir: cannot create the log file");
  } finally {
    rmSync(folder, { recursive: true });
  }
});

describe("c10d run: nodes that do not join", () => {
  test("both report different settings", async () => {
    await using job = await TwoNodes.start([], [fixture("hello.ts")], secret, [[], ["--max-restarts", "3"]]);
    expect(await job.exitCodes()).toEqual([2, 2]);
    for (const { stderr, stdout } of job.nodes) {
      expect(stderr).toContain("the nodes of this job do not agree on --max-restarts: node ");
      expect(stdout).toBe("");
    }
  });

  test("a node that does not join is named", async () => {
    const three = ["--nnodes", "3"];
    await using job = await TwoNodes.start(["--rdzv-timeout", "4s"], [fixture("hello.ts")], secret, [three, three]);
    expect(await job.exitCodes()).toEqual([1, 1]);
    expect(job.nodes[0].stderr).toContain("node 2 of 3 did not join at 127.0.0.1:");
  });

  test("two launchers cannot be the same node", async () => {
    const endpoint = await freeEndpoint();
    const start = (node: number) => {
      const flags = ["run", "-n", "1", "--nnodes", "3", "--node-rank", String(node), "--rdzv-endpoint", endpoint];
      return new CliProcess([...flags, "--rdzv-timeout", "5s", fixture("hello.ts")], secret);
    };
    await using first = start(0);
    await using second = start(1);
    await using third = start(1);
    const refused = await Promise.race([second, third].map((cli) => cli.exitCode().then(() => cli)));
    expect(await refused.exitCode()).toBe(1);
    expect(refused.stderr).toContain("node 1 has already joined: the launcher with pid");
    first.signal("SIGTERM");
    expect(await first.exitCode()).toBe(143);
  });

  test("another secret is refused", async () => {
    const env = [secret, { C10D_STORE_SECRET: "another" }] as const;
    await using job = await TwoNodes.start(["--rdzv-timeout", "4s"], [fixture("hello.ts")], env);
    expect(await job.exitCodes()).toEqual([1, 1]);
    expect(job.nodes[1].stderr).toContain("secret");
    expect(job.nodes[0].stderr).toContain("node 1 of 2 did not join");
    expect(job.nodes[0].stderr).toContain("the client has a different secret");
  });

  test("a signal ends the wait for the others", async () => {
    const endpoint = await freeEndpoint();
    const flags = ["run", "-n", "1", "--nnodes", "2", "--node-rank", "0", "--rdzv-endpoint", endpoint];
    await using cli = new CliProcess([...flags, fixture("hello.ts")], secret);
    await listening(endpoint);
    cli.signal("SIGTERM");
    expect(await cli.exitCode()).toBe(143);
    expect(cli.stdout).toBe("");
  });
});

describe("c10d run --nnodes 2: secret", () => {
  const two = ["run", "-n", "1", "--nnodes", "2", "--node-rank", "1", "--rdzv-endpoint", "127.0.0.1:1"];
  const none = { C10D_STORE_SECRET: undefined };

  test("is required", async () => {
    for (const env of [none, { TORCHELASTIC_ERROR_FILE: "/tmp/error.json" }]) {
      const { exitCode, stderr } = await runCli([...two, fixture("hello.ts")], { ...none, ...env });
      expect(exitCode).toBe(2);
      expect(stderr).toContain("several nodes need a secret");
    }
  });

  test("comes from a file that only its owner can read", async () => {
    const folder = mkdtempSync(join(tmpdir(), "c10d-secret-"));
    try {
      const path = join(folder, "secret");
      await Bun.write(path, "of the file\n");
      chmodSync(path, 0o644);
      const flags = ["run", "-n", "1", "--secret-file", path];
      const print = ["--no-bun", "sh", "-c", 'echo "$C10D_STORE_SECRET"'];
      const refused = await runCli([...flags, ...print], none);
      expect(refused.exitCode).toBe(2);
      expect(refused.stderr).toContain("can be read by others (mode 0644): chmod 600");
      chmodSync(path, 0o600);
      const huge = join(folder, "huge");
      await Bun.write(huge, "");
      chmodSync(huge, 0o600);
      truncateSync(huge, 3 * 2 ** 30);
      const tooLarge = await runCli(["run", "-n", "1", "--secret-file", huge, ...print], none);
      expect([tooLarge.exitCode, tooLarge.stderr]).toEqual([2, expect.stringContaining("has more than 65536 bytes")]);
      expect((await runCli([...flags, ...print], secret)).stdout).toBe("of the file\n");
      await using job = await TwoNodes.start(["--secret-file", path, "--no-prefix"], print, none);
      expect(await job.exitCodes()).toEqual([0, 0]);
      for (const { stdout } of job.nodes) expect(stdout).toBe("of the file\nof the file\n");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  testAsRoot("does not come from another user's file", async () => {
    const folder = mkdtempSync(join(tmpdir(), "c10d-secret-"));
    const path = join(folder, "secret");
    writeFileSync(path, "known to its owner\n", { mode: 0o600 });
    giveAway(path);
    const { exitCode, stderr } = await runCli(["run", "-n", "1", "--secret-file", path, "--no-bun", "true"], none);
    rmSync(folder, { recursive: true });
    expect(exitCode).toBe(2);
    expect(stderr).toContain(`--secret-file: ${path} belongs to another user (uid ${otherUser}), who can read it`);
  });

  test.each(["--insecure", "--torch-compat"])("is not required with %s, with a warning", async (flag) => {
    const print = ["--no-bun", "sh", "-c", 'echo "secret: $C10D_STORE_SECRET."'];
    await using job = await TwoNodes.start([flag, "--no-prefix"], print, none);
    expect(await job.exitCodes()).toEqual([0, 0]);
    expect(job.nodes[0].stderr).toContain(
      "speaks PyTorch's open protocol: anyone who can reach it can read and write it",
    );
    expect(job.nodes[1].stdout).toBe("secret: .\nsecret: .\n");
  });
});

describe("c10d run --nnodes: wrong usage", () => {
  const end = fixture("hello.ts");
  test.each([
    [["--nnodes", "2"], "--node-rank is missing"],
    [["--nnodes", "2", "--node-rank", "2"], "--node-rank must be below --nnodes, which is 2, got 2"],
    [["--nnodes", "0"], "--nnodes must be an integer of at least 1"],
    [["--nnodes", "2", "--node-rank", "0"], "several nodes need --rdzv-endpoint host:port"],
    [["--nnodes", "2", "--node-rank", "0", "--rdzv-endpoint", "0.0.0.0:1"], "that the other nodes can connect to"],
    [["--rdzv-endpoint", "a:b:1"], "--rdzv-endpoint must be host:port"],
    [["--rdzv-endpoint", "a:99999"], "--rdzv-endpoint must be an integer from 0 to 65535"],
    [["--rdzv-endpoint", "a:1", "--master-port", "1"], "give --rdzv-endpoint or --master-addr and --master-port"],
  ])("%j", async (flags, message) => {
    const { exitCode, stdout, stderr } = await runCli(["run", "-n", "1", ...flags, end], secret);
    expect([exitCode, stdout]).toEqual([2, ""]);
    expect(stderr).toContain(message);
  });
});

describeGloo("a rank that waits for one on another node", () => {
  test("learns from the launchers what that one does", async () => {
    await using job = await TwoNodes.start(["--grace", "100ms"], [fixture("far-hang.ts")]);
    expect(await job.exitCodes()).toEqual([3, 3]);
    const about = String.raw`it waits for rank 3 \(pid \d+ on \S+, [\d.]+ s ago\), which has not called it: in no op; the last, broadcast #1`;
    const [first, second] = job.nodes.map(({ stdout }) => stdout);
    expect(first).toMatch(new RegExp(`\\[rank 0\\] allReduce #2 .*${about}`));
    expect(first).toMatch(new RegExp(`\\[rank 1\\] allReduce #2 .*${about}`));
    expect(second).toMatch(
      /\[rank 2\] allReduce #2 .*it waits for rank 3 \(pid \d+\), which has not called it: in no op/,
    );
    expect(job.nodes[1].stderr).toMatch(/what the ranks were doing:\n {2}rank 2 .*\n {2}rank 3 .*: in no op/);
  });
});
