import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readJobs } from "../status/index.ts";
import { CliProcess, fixture } from "./fixtures/cli-process.ts";

setDefaultTimeout(30_000);

const folder = mkdtempSync(join(tmpdir(), "c10d-run-sockets-"));
afterAll(() => rmSync(folder, { recursive: true }));

test.each(["SIGINT", "SIGTERM"] as const)("the socket files of ranks go with the job that %s ends", async (signal) => {
  const id = `sockets-${signal}-${process.pid}`;
  const name = `${signal}.sock`;
  const socket = join(folder, name);
  const left = () => readdirSync(folder).filter((each) => each.startsWith(name));
  await using run = new CliProcess(["run", "-n", "3", "--rdzv-id", id, "--grace", "5s", fixture("served.ts"), socket]);
  for (const rank of [0, 1, 2]) await run.printed(new RegExp(`rank ${rank} serves`));
  expect(left().sort()).toEqual([0, 1, 2].map((rank) => `${name}.${rank}`));
  // What has taken the place of one is another's.
  unlinkSync(`${socket}.2`);
  writeFileSync(`${socket}.2`, "another's");
  run.signal(signal);
  await run.exitCode();
  expect(left()).toEqual([`${name}.2`]);
  expect(readJobs().filter(({ launched }) => launched?.runId === id)).toEqual([]);
});
