import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

setDefaultTimeout(60_000);

// Runs the example of docs/objects.md.

const root = resolve(import.meta.dir, "../..");
const page = readFileSync(join(root, "docs/objects.md"), "utf8");

let folder = "";
beforeAll(() => {
  mkdirSync(join(root, "build"), { recursive: true });
  folder = mkdtempSync(join(root, "build/objects-")); // inside the package, where its own name resolves
});
afterAll(() => rmSync(folder, { recursive: true }));

test("an object is sent as it was at the call", () => {
  const script = join(folder, "broadcast.ts");
  writeFileSync(script, /^```ts\n([\s\S]*?)^```/m.exec(page)?.[1] ?? "");
  const { exitCode, stdout, stderr } = Bun.spawnSync({
    cmd: [process.execPath, join(root, "src/cli/main.ts"), "run", "-n", "2", script],
    timeout: 40_000,
    env: { ...process.env, NO_COLOR: "1" },
  });
  expect([exitCode, stderr.toString()]).toEqual([0, ""]);
  const text = stdout.toString();
  for (const rank of [0, 1]) expect(text).toContain(`[rank ${rank}]   rate: 0.1,`);
  expect(text.match(/zero: -0,/g)).toHaveLength(2);
  expect(text.match(/none: undefined,/g)).toHaveLength(2);
});
