import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CodeFolder, root } from "./code-folder.ts";

setDefaultTimeout(60_000);

// Runs the example of docs/stores.md.

const page = readFileSync(join(root, "docs/stores.md"), "utf8");

const files = [["store.ts", /^```ts\n([\s\S]*?)^```/m.exec(page)?.[1] ?? ""]] as const;

let folder: CodeFolder;
beforeAll(() => {
  folder = new CodeFolder("stores", files);
});
afterAll(() => folder[Symbol.dispose]());

test("a store without a group, under c10d run", async () => {
  const lines = ["rank 1 1", "rank 1 2"];
  expect(await folder.runRanks("store.ts")).toMatchObject({ exitCode: 0, stderr: "", lines });
});

test("a store without a group, started by hand", async () => {
  const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response() });
  const port = String(server.port);
  await server.stop(true);
  const meeting = { WORLD_SIZE: "2", MASTER_ADDR: "127.0.0.1", MASTER_PORT: port };
  const ranks = await Promise.all(["0", "1"].map((RANK) => folder.run(["store.ts"], { ...meeting, RANK })));
  expect(ranks.map(({ exitCode, stdout, stderr }) => [exitCode, stdout + stderr]).sort()).toEqual([
    [0, "rank 1 1\n"],
    [0, "rank 1 2\n"],
  ]);
});
