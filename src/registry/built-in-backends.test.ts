import { afterAll, describe, expect, test } from "bun:test";
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { builtInBackends } from "./built-in-backends.ts";

const root = resolve(import.meta.dir, "../..");
const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});

/** What a script prints as JSON; `src` is the folder that it imports the package from. */
function run(code: (src: string) => string, src = join(root, "src"), env: Record<string, string | undefined> = {}) {
  const folder = mkdtempSync(join(tmpdir(), "c10d-registry-"));
  folders.push(folder);
  const script = join(folder, "script.ts");
  writeFileSync(script, code(src));
  const { stdout, stderr, exitCode } = Bun.spawnSync({
    cmd: [process.execPath, script],
    env: { ...process.env, ...env },
    timeout: 20_000,
  });
  if (exitCode !== 0) throw new Error(`exit code ${exitCode}: ${stderr}`);
  return JSON.parse(stdout.toString());
}

describe("built-in backends", () => {
  test("importing the package loads none of them, nor anything native", () => {
    const loaded = run(
      (src) => `
        const maps = () => require("node:fs").readFileSync("/proc/self/maps", "utf8");
        const backends = () => Object.keys(require.cache).filter((file) => file.includes("/src/backends/"));
        const { createContainer, BACKEND_REGISTRY } = await import("${src}/index.ts");
        const registry = createContainer().resolve(BACKEND_REGISTRY);
        const before = { modules: Object.keys(require.cache).length, backends: backends(), native: /libc10d|libgloo/.test(maps()) };
        await registry.get("gloo");
        console.log(JSON.stringify({ before, after: backends().length }));
      `,
    );
    expect(loaded.before.modules).toBeGreaterThan(20);
    expect(loaded.before).toMatchObject({ backends: [], native: false });
    expect(loaded.after).toBeGreaterThan(2);
  });

  test("each loads a plugin of its name", async () => {
    for (const { name, load } of builtInBackends) {
      const plugin = await load();
      expect(plugin.name).toBe(name);
      expect(plugin.module).toStartWith("file://");
      expect((await import(String(plugin.module))).default).toBe(plugin);
    }
  });

  test("without the shim, gloo says where it looked and how to install it", () => {
    const copy = mkdtempSync(join(tmpdir(), "c10d-copy-"));
    const empty = mkdtempSync(join(tmpdir(), "c10d-empty-"));
    folders.push(copy, empty);
    cpSync(join(root, "src"), join(copy, "src"), { recursive: true });
    cpSync(join(root, "package.json"), join(copy, "package.json"));
    symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
    const { probe, error } = run(
      (src) => `
        const { createContainer, BACKEND_REGISTRY, initProcessGroup } = await import("${src}/index.ts");
        const probe = await createContainer().resolve(BACKEND_REGISTRY).probe("gloo");
        const error = await initProcessGroup({ backend: "gloo" }).catch(({ name, code, message }) => ({ name, code, message }));
        console.log(JSON.stringify({ probe, error }));
      `,
      join(copy, "src"),
      { C10D_NATIVE_DIR: empty },
    );
    expect(probe.available).toBe(false);
    expect(probe.reason).toContain(`${empty}/libc10d_gloo.so (absent)`);
    expect(probe.reason).toContain(`${copy}/build/release/lib/libc10d_gloo.so (absent)`);
    expect(probe.remedy).toContain("./bootstrap build");
    expect(probe.remedy).toContain("apt-get install libgloo-dev");
    expect(error).toMatchObject({ name: "BackendUnavailableError", code: "BACKEND_UNAVAILABLE" });
    expect(error.message).toStartWith('backend "gloo" cannot run here: ');
    expect(error.message.split("apt-get install")).toHaveLength(2);
  });
});
