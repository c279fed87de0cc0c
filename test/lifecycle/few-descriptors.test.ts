import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CliProcess } from "../../src/cli/fixtures/cli-process.ts";
import { HashStore, initProcessGroup } from "../../src/index.ts";
import { builtInBackends } from "../../src/registry/built-in-backends.ts";
import { BackendRegistry } from "../../src/registry/index.ts";
import { TCPStoreServer } from "../../src/store/index.ts";

// When file descriptors run out the error says so, whatever the runtime or a library reports.

setDefaultTimeout(60_000);

const program = join(import.meta.dir, "fixtures/few-descriptors.ts");
const folder = mkdtempSync(join(tmpdir(), "c10d-few-"));
afterAll(() => rmSync(folder, { recursive: true }));
const gloo = await new BackendRegistry(builtInBackends).probe("gloo");
if (!gloo.available) console.log(`skip a group with few descriptors: ${gloo.reason}`);

const limited = (limit: number): readonly string[] => ["prlimit", `--nofile=${limit}:${limit}`];
/** Whether Bun starts with so few: a shell script that starts it needs 12 itself (`./bootstrap generation`). */
const starts = (limit: number): boolean =>
  Bun.spawnSync([...limited(limit), process.execPath, "-e", ""], { stdout: "ignore", stderr: "ignore" }).success;
const atAll =
  /this process has no file descriptor left: `ulimit -n` is 48\b.* Raise it before the start: `ulimit -n 4096`/;

async function attempt(action: string, left: number, port: number) {
  const child = Bun.spawn({
    cmd: [...limited(48), process.execPath, program, action, String(left), String(port), folder],
    stdout: "pipe",
    stderr: "pipe",
    timeout: 30_000,
  });
  const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  try {
    return JSON.parse(stdout) as { well?: true; name?: string; code?: string; message?: string };
  } catch {
    throw new Error(`${action} with ${left} left: ${child.signalCode ?? child.exitCode}\n${stdout}${stderr}`);
  }
}

describe("with few descriptors left", () => {
  for (const action of ["connect", "connect by name", "listen", "host", "file", "redis", "group"]) {
    test.concurrent.skipIf(action === "group" && !gloo.available)(
      `${action}: works, or says what has run out`,
      async () => {
        await using server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0, secret: null });
        const port = action === "redis" ? 1 : server.port;
        let shortages = 0;
        for (const left of action === "group" ? [0, 2, 3, 4, 5, 6, 8] : [0, 1, 2, 3, 4]) {
          const { well, name, code, message } = await attempt(action, left, port);
          // No server listens on the Redis port: with enough descriptors that is the error.
          if (well || (action === "redis" && code === "CONNECT_TIMEOUT")) continue;
          expect({ left, code, name }).toEqual({
            left,
            code: "OUT_OF_DESCRIPTORS",
            name: expect.stringMatching(/^(Dist|Backend)/),
          });
          expect(message).toMatch(atAll);
          expect(message?.match(/no file descriptor left/g)).toHaveLength(1);
          shortages++;
        }
        expect(shortages).toBeGreaterThan(0);
      },
    );
  }
});

describe("c10d run with few descriptors", () => {
  for (const limit of [8, 10, 12, 14, 16]) {
    const can = starts(limit);
    if (!can) console.log(`skip c10d run with ${limit} descriptors: ${process.execPath} does not start with so few`);
    test.skipIf(!can)(String(limit), async () => {
      await using cli = new CliProcess(["run", "-n", "4", "--no-bun", "sleep", "20"], {}, { within: limited(limit) });
      expect(await cli.exitCode()).toBe(1);
      expect(cli.stderr).toMatch(
        /^c10d run: DistError: cannot (guard the ranks|start rank \d \(.*\)): this process has no/,
      );
      expect(cli.stderr).toContain(`\`ulimit -n\` is ${limit}`);
      if (cli.stderr.includes("start rank")) expect(cli.stderr).toContain("about 44 are needed");
      expect(cli.stderr).not.toMatch(/\n\s+at /);
    });
  }

  test("with log files", async () => {
    const flags = ["run", "-n", "4", "--log-dir", join(folder, "logs"), "--no-bun", "sleep", "20"];
    await using cli = new CliProcess(flags, {}, { within: limited(12) });
    expect(await cli.exitCode()).toBe(1);
    expect(cli.stderr).toMatch(/^c10d run: DistError: cannot .*: this process has no file descriptor left/);
  });

  test.skipIf(!gloo.available)("a rank that has too few says so, and the launcher names it", async () => {
    const script = join(folder, "rank.ts");
    writeFileSync(
      script,
      `import { initProcessGroup } from "${join(import.meta.dir, "../../src/index.ts")}";
      await using _group = await initProcessGroup({ backend: "gloo", timeout: "20s" });`,
    );
    const command = `[ $RANK = 0 ] || ulimit -n 14; exec ${process.execPath} ${script}`;
    await using cli = new CliProcess(["run", "-n", "2", "--no-bun", "sh", "-c", command]);
    expect(await cli.exitCode()).toBe(1);
    expect(cli.stderr).toContain("c10d run: rank 1 failed first");
    expect(cli.stderr).toContain("no file descriptor left: `ulimit -n` is 14, and about 28 are needed");
  });
});

test.skipIf(!gloo.available)("an address of another machine is still reported as such", async () => {
  const options = { store: new HashStore(), rank: 0, worldSize: 1, timeout: 5_000 };
  const error = await initProcessGroup({ ...options, backend: "gloo", options: { host: "192.0.2.1" } }).catch(
    (reason) => reason,
  );
  expect(error).toMatchObject({ name: "InvalidArgumentError", code: "INVALID_ARGUMENT" });
  expect(error.message).toContain("cannot listen on 192.0.2.1: is it an address of this machine?");
});
