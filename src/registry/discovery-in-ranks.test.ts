import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { spawnRanks } from "../testing/index.ts";

setDefaultTimeout(60_000);

const program = new URL("./fixtures/discovered-rank.ts", import.meta.url);
const sockets = Bun.fileURLToPath(new URL("../../examples/custom-backend/sockets.ts", import.meta.url));
const main = Bun.fileURLToPath(new URL("../cli/main.ts", import.meta.url));

/** An application that depends on a package with the backend. */
const application = mkdtempSync(join(tmpdir(), "c10d-app-"));
const dependency = join(application, "node_modules/sockets-backend");
mkdirSync(dependency, { recursive: true });
writeFileSync(join(application, "package.json"), JSON.stringify({ dependencies: { "sockets-backend": "1" } }));
writeFileSync(
  join(dependency, "package.json"),
  JSON.stringify({ name: "sockets-backend", c10d: { backends: { sockets: "./sockets.ts" } } }),
);
writeFileSync(join(dependency, "sockets.ts"), `export { default } from ${JSON.stringify(sockets)};`);
afterAll(() => rmSync(application, { recursive: true }));

function c10dRun(cwd: string, env: Readonly<Record<string, string | undefined>>) {
  const { stdout, stderr, exitCode } = Bun.spawnSync({
    cmd: [process.execPath, main, "run", "-n", "2", Bun.fileURLToPath(program)],
    cwd,
    env: { ...process.env, ...env },
    timeout: 40_000,
    killSignal: "SIGTERM",
  });
  return { exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
}

describe("ranks in separate processes find backends that are not registered", () => {
  test("spawnRanks, by C10D_BACKENDS", async () => {
    const outcomes = await spawnRanks(2, program, { env: { C10D_BACKENDS: sockets } });
    expect(outcomes.map(({ value, error }) => error ?? value)).toEqual(["sockets", "sockets"]);
  });

  test("c10d run, by C10D_BACKENDS", () => {
    const { exitCode, stdout, stderr } = c10dRun(tmpdir(), { C10D_BACKENDS: sockets });
    expect([exitCode, stderr]).toEqual([0, ""]);
    expect(stdout.match(/ran on sockets/g)).toHaveLength(2);
  });

  test("c10d run, by a package that the application depends on", () => {
    const { exitCode, stdout, stderr } = c10dRun(application, { C10D_BACKENDS: undefined });
    expect([exitCode, stderr]).toEqual([0, ""]);
    expect(stdout.match(/ran on sockets/g)).toHaveLength(2);
  });

  test("without either, the ranks list the known backends", async () => {
    const outcomes = await spawnRanks(1, program, { env: { C10D_BACKENDS: undefined } });
    expect(outcomes[0]?.error).toMatchObject({ name: "BackendUnavailableError", code: "UNKNOWN_BACKEND" });
  });
});
