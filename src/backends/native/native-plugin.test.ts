import { describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { BackendUnavailableError, DistBackendError } from "../../errors/index.ts";
import { ABI_VERSION } from "../../native/abi.generated.ts";
import { type BackendContext, BackendType, createContainer, registryOf } from "../../registry/index.ts";
import { includeDirectory, type NativePluginInit, nativePlugin } from "./native-plugin.ts";

const init: NativePluginInit<{ depth: number }> = {
  name: "mine",
  sdk: 2,
  module: import.meta.url,
  library: "/nowhere/libc10d_mine.so",
  remedy: "Compile it: make",
  capabilities: { ops: { barrier: [] }, reduceOps: {} },
};

const compiler = Bun.which("cc");
if (compiler === null) console.log("skipping a test that compiles a library: there is no C compiler, cc");
const testCompiled = test.skipIf(compiler === null);

/** Compiles a shim that makes no group, but reports the settings that it received. */
function compile(folder: string): string {
  const header = readFileSync(`${includeDirectory}/c10d.h`, "utf8");
  const own = ["c10d_abi_version", "c10d_probe", "c10d_last_failure", "c10d_create"];
  const others = [...new Set([...header.matchAll(/\b(c10d_[a-z_]+)\(/g)].map(([, name = ""]) => name))]
    .filter((name) => !own.includes(name))
    .map((name) => `void ${name}(void) {}`);
  const source = `#include <stdio.h>
    static char text[64];
    struct config { int words[6]; double timeout; char *options; };
    struct failure { int words[8], bytes, reserved; void *ranks; char *text; };
    unsigned c10d_abi_version(void) { return ${ABI_VERSION}; }
    int c10d_probe(char *to, unsigned capacity) { return snprintf(to, capacity, "9.8.7"); }
    int c10d_last_failure(struct failure *to) {
      to->bytes = snprintf(to->text, sizeof text, "%s", text);
      return to->words[1] = -5;
    }
    void *c10d_create(struct config *config) {
      snprintf(text, sizeof text, "settings: %s", config->options);
      return 0;
    }
    ${others.join("\n")}`;
  writeFileSync(`${folder}/shim.c`, source);
  const { exitCode, stderr } = Bun.spawnSync(["cc", "-shared", "-fPIC", "-o", "shim.so", "shim.c"], { cwd: folder });
  if (exitCode !== 0) throw new Error(stderr.toString());
  return `${folder}/shim.so`;
}

/** What `create()` rejects with. */
async function creating(plugin: { create(context: never): unknown }): Promise<unknown> {
  return await Promise.resolve(plugin.create({} as never)).catch((error: unknown) => error);
}

describe("nativePlugin", () => {
  test.each<[unknown, string]>([
    [7, "got number 7"],
    [{ depth: 4 }, 'got number 4 for "depth"'],
    [{ "depth=": "4" }, 'got "4" for "depth="'],
    [{ depth: "4\0" }, 'for "depth"'],
  ])("settings %p are refused before the library is loaded", async (settings, message) => {
    const error = await creating(nativePlugin({ ...init, settings: () => settings as never }));
    expect(error).toMatchObject({ name: "InvalidArgumentError", details: { backend: "mine", argument: "settings" } });
    expect(String(error)).toContain(message);
  });

  test("makes a plugin that the registry accepts", () => {
    const plugin = nativePlugin(init);
    expect(plugin).toMatchObject({
      type: BackendType.CUSTOM,
      sdk: 2,
      devices: ["cpu"],
      bootstrap: "store",
      module: init.module,
    });
    expect("options" in plugin).toBe(false);
    const container = createContainer();
    registryOf(container).register(plugin);
  });

  test.each<[string, object, string]>([
    [
      "library",
      { library: undefined },
      'nativePlugin "mine": library must be the path of the shared library, or a file: URL, got undefined',
    ],
    ["library", { library: new URL("https://example.com/x.so") }, "or a file: URL, got URL"],
    ["remedy", { remedy: 7 }, "got number 7"],
    ["settings", { settings: { depth: "4" } }, "settings must be a method, got Object"],
    ["options", { options: {} }, "options must be a method, got Object"],
  ])("an invalid %s is refused at once", (argument, changes, message) => {
    const make = () => nativePlugin({ ...init, ...changes } as never);
    expect(make).toThrow(message);
    expect(make).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT", details: { argument } }));
  });

  test("an argument that is not an object is refused", () => {
    expect(() => nativePlugin(undefined as never)).toThrow("expected an object with name, sdk, library");
  });

  test("passes on devices and options", async () => {
    const check = (given: unknown) => given as { depth: number };
    const plugin = nativePlugin({ ...init, devices: ["cuda"], options: () => check });
    expect(plugin).toMatchObject({ devices: ["cuda"] });
    expect(await plugin.options?.()).toBe(check);
  });

  test.each([
    ["a path", init.library],
    ["a URL", pathToFileURL(String(init.library))],
  ])("a library that is missing, named by %s: where it should be, and the remedy", async (_, library) => {
    const plugin = nativePlugin({ ...init, library });
    const availability = await plugin.probe();
    expect(availability).toMatchObject({ available: false, remedy: init.remedy });
    expect(availability).toHaveProperty("reason", expect.stringContaining(String(init.library)));
    const error = await plugin.create({} as BackendContext<{ depth: number }>).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(BackendUnavailableError);
    expect(String(error)).toContain(String(init.remedy));
  });

  testCompiled("reports what it found, and passes the library its settings", async () => {
    const folder = mkdtempSync(join(tmpdir(), "native-plugin-"));
    try {
      const library = compile(folder);
      const plugin = nativePlugin({ ...init, library, settings: ({ options }) => ({ depth: `${options.depth}` }) });
      expect(await plugin.probe()).toEqual({
        available: true,
        version: "9.8.7",
        library: { path: library, abi: ABI_VERSION },
      });
      const context: Partial<BackendContext<{ depth: number }>> = {
        rank: 0,
        size: 1,
        device: { type: "cpu", index: 0 },
        timeoutMs: 1_000,
        options: { depth: 3 },
      };
      const error = await plugin
        .create(context as BackendContext<{ depth: number }>)
        .catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(DistBackendError);
      expect(String(error)).toContain("settings: depth=3");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("exports the folder of the header", () => {
    expect(existsSync(`${includeDirectory}/c10d.h`)).toBe(true);
    expect(existsSync(`${includeDirectory}/engine/transport.h`)).toBe(true);
  });
});
