import { expect, test } from "bun:test";
import { join } from "node:path";

test.each([
  ["", "off"],
  ["t", "on"],
  ["False", "off"],
  [
    "maybe",
    'environment variable C10D_CHECK_DETACH must be one of true, t, 1, yes, y, on, false, f, 0, no, n, off, got "maybe"',
  ],
])("C10D_CHECK_DETACH=%s", (C10D_CHECK_DETACH, expected) => {
  const script = `
    import(${JSON.stringify(join(import.meta.dir, "detach-guard.ts"))}).then(
      ({ detachGuard }) => console.log(detachGuard === undefined ? "off" : "on"),
      ({ message }) => console.log(message),
    );`;
  const { stdout } = Bun.spawnSync({
    cmd: [process.execPath, "-e", script],
    env: { ...process.env, C10D_CHECK_DETACH },
  });
  expect(stdout.toString()).toBe(`${expected}\n`);
});
