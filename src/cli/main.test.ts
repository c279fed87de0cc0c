import { describe, expect, setDefaultTimeout, test } from "bun:test";
import packageJson from "../../package.json" with { type: "json" };
import { userVariables } from "../environment/index.ts";
import { CliProcess, runCli } from "./fixtures/cli-process.ts";

setDefaultTimeout(30_000);

describe("c10d", () => {
  test("--version", async () => {
    expect(await runCli(["--version"])).toEqual({ exitCode: 0, stdout: `${packageJson.version}\n`, stderr: "" });
  });

  test("--help lists the commands", async () => {
    const { exitCode, stdout, stderr } = await runCli(["--help"]);
    expect([exitCode, stderr]).toEqual([0, ""]);
    for (const name of ["run", "store", "info", "build", "trace", "env"])
      expect(stdout).toMatch(new RegExp(`^  ${name} `, "m"));
  });

  test.each(["run", "store", "info", "build", "trace", "env"])("%s --help lists its flags", async (name) => {
    const { exitCode, stdout, stderr } = await runCli([name, "--help"]);
    expect([exitCode, stderr]).toEqual([0, ""]);
    expect(stdout).toContain(`Usage: c10d ${name} [flags]`);
    expect(stdout).toContain("--help");
  });

  test("--help among the flags of run prints the help of run", async () => {
    const { exitCode, stdout } = await runCli(["run", "-n", "2", "--help"]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain("--nproc-per-node <N>");
  });

  test.each([
    [[], "no command given"],
    [["walk"], 'unknown command "walk"; the commands are run, top, store, info, build, trace, env'],
    [["--walk"], 'unknown flag "--walk"'],
    [["env", "--walk"], "Unknown option '--walk'"],
    [["env", "walk"], 'unexpected argument "walk"'],
    [["store", "--port", "x"], "--port must be an integer from 0 to 65535"],
    [["store", "--port"], "--port"],
  ])("%j is wrong usage", async (args, message) => {
    const { exitCode, stdout, stderr } = await runCli(args);
    expect(stderr).toContain(message);
    expect(stderr).toContain("--help");
    expect([exitCode, stdout]).toEqual([2, ""]);
  });
});

describe("c10d env", () => {
  test("lists every variable with its meaning and current value", async () => {
    const { exitCode, stdout } = await runCli(["env"], { MASTER_ADDR: "host-7" });
    expect(exitCode).toBe(0);
    for (const [name, { description }] of userVariables) {
      expect(stdout).toContain(`${name} (`);
      expect(stdout).toContain(description);
    }
    expect(stdout).toContain("now: host-7");
  });

  test("does not show a secret", async () => {
    for (const args of [["env"], ["env", "--json"]]) {
      const { stdout } = await runCli(args, { C10D_STORE_SECRET: "keep this private" });
      expect(stdout).toContain("(set)");
      expect(stdout).not.toContain("keep this private");
    }
  });

  test("--json", async () => {
    const { stdout } = await runCli(["env", "--json"], { RANK: "3", WORLD_SIZE: undefined });
    const rows = JSON.parse(stdout) as { name: string; type: string; value: string | null }[];
    expect(rows.map((row) => row.name)).toEqual(userVariables.map(([name]) => name));
    expect(rows.find((row) => row.name === "RANK")).toMatchObject({ type: "integer", value: "3" });
    expect(rows.find((row) => row.name === "WORLD_SIZE")?.value).toBeNull();
  });
});

describe("c10d info", () => {
  test("--json says for each backend whether it is available, or why not and what to do", async () => {
    const { exitCode, stdout } = await runCli(["info", "--json"]);
    expect(exitCode).toBe(0);
    const info = JSON.parse(stdout) as { bun: string; backends: Record<string, unknown>[] };
    expect(info.bun).toBe(Bun.version);
    expect(info.backends.map((backend) => backend.name)).toContain("gloo");
    for (const backend of info.backends) {
      const expected = backend.available
        ? { version: expect.any(String) }
        : { reason: expect.any(String), remedy: expect.any(String) };
      expect(backend).toMatchObject({ type: expect.any(String), devices: expect.any(Array), ...expected });
    }
  });

  test("without --json it is text with a line for each backend", async () => {
    const { exitCode, stdout } = await runCli(["info"]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain(`Bun ${Bun.version}`);
    expect(stdout).toMatch(/^ {2}gloo \(GLOO\).*: (available, version|not available)/m);
  });
});

describe("c10d store", () => {
  test.each(["SIGINT", "SIGTERM"] as const)("serves until %s; its first line is its address", async (signal) => {
    await using cli = new CliProcess(["store", "--port", "0"]);
    for (const end = performance.now() + 5_000; !cli.stdout.includes("\n"); await Bun.sleep(5)) {
      expect(performance.now()).toBeLessThan(end);
    }
    const port = /^127\.0\.0\.1:(\d+)\n/.exec(cli.stdout)?.[1];
    const { TCPStore } = await import("../store/index.ts");
    const store = await TCPStore.connect({ host: "127.0.0.1", port: Number(port), timeout: "5s" });
    await store.set("k", "v");
    expect(new TextDecoder().decode(await store.get("k"))).toBe("v");
    cli.signal(signal);
    expect(await cli.exitCode()).toBe(0);
    await store.close().catch(() => {});
  });

  test("reports who can use it, and a client that it refused", async () => {
    await using local = new CliProcess(["store", "--port", "0"], { C10D_STORE_SECRET: "" });
    await using all = new CliProcess(["store", "--port", "0", "--host", "0.0.0.0"], { C10D_STORE_SECRET: "" });
    await using cli = new CliProcess(["store", "--port", "0"], { C10D_STORE_SECRET: "of the server" });
    const until = async (isThere: () => boolean) => {
      for (const end = performance.now() + 20_000; !isThere(); await Bun.sleep(5)) {
        expect(performance.now()).toBeLessThan(end);
      }
    };
    await until(() => [local, all, cli].every(({ stdout }) => stdout.includes("\n")) && all.stderr.includes("\n"));
    expect(all.stderr).toContain("open protocol: anyone who can reach it");
    expect(local.stderr).toBe("");
    const port = Number(/:(\d+)\n/.exec(cli.stdout)?.[1]);
    const { TCPStore } = await import("../store/index.ts");
    for (const [secret, code, reported] of [
      [null, "SECRET_REQUIRED", "requires its secret"],
      ["of the client", "SECRET_MISMATCH", "a different secret"],
    ] as const) {
      const connecting = TCPStore.connect({ host: "127.0.0.1", port, timeout: "20s", secret });
      await expect(connecting).rejects.toMatchObject({ code });
      await until(() => cli.stderr.includes(reported));
    }
    expect(cli.stderr).not.toContain("of the server");
  });

  test("a port in use is an error that names the port", async () => {
    using taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const { exitCode, stderr } = await runCli(["store", "--port", String(taken.port)]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain(String(taken.port));
  });
});
