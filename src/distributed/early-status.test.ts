import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../cli/fixtures/cli-process.ts";

setDefaultTimeout(30_000);

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "c10d-early-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** What rank 0 of some prints, the others of which do not come. */
async function rank0(worldSize: number, env: Record<string, string>): Promise<string> {
  const place = { RANK: "0", WORLD_SIZE: String(worldSize), MASTER_ADDR: "127.0.0.1", MASTER_PORT: String(freePort()) };
  const program = `import * as dist from ${JSON.stringify(join(import.meta.dir, "../index.ts"))};
    await dist.initProcessGroup({ backend: "fake", timeout: 1_500 }).catch(({ code }) => console.log("failed", code));
    // For the warnings.
    await Bun.sleep(10);
    process.exit(0);`;
  const child = Bun.spawn({
    cmd: [process.execPath, "-e", program],
    env: { ...process.env, ...place, NO_COLOR: "1", ...env },
    ...{ stdout: "pipe", stderr: "pipe", timeout: 15_000, killSignal: "SIGKILL" },
  });
  const texts = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  expect([await child.exited, child.signalCode]).toEqual([0, null]);
  return texts.join("");
}

test("what else is in the folder of the records neither blocks initProcessGroup nor is believed", async () => {
  for (const name of ["rank-1", "ended.json"]) Bun.spawnSync(["mkfifo", join(folder, name)]);
  writeFileSync(join(folder, "reported.json"), "");
  truncateSync(join(folder, "reported.json"), 3 * 2 ** 30);
  const text = await rank0(2, { C10D_STATUS_DIR: folder });
  expect(text).toContain("failed CONNECT_TIMEOUT");
  for (const name of ["rank-1", "ended.json", "reported.json"])
    expect(text.split(`${join(folder, name)} is ignored: `)).toHaveLength(2);
  expect(readdirSync(folder)).toContain("rank-0");
});

test("a rank that can have no status record says so once", async () => {
  const text = await rank0(1, { C10D_STATUS_DIR: join(folder, "absent") });
  expect(text.split("this rank has no status record: ")).toHaveLength(2);
  expect(text).toContain(`${join(folder, "absent")} does not exist`);
});
