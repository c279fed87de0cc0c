import { afterAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { BackendUnavailableError } from "../errors/index.ts";
import { giveAway, openToAll, otherUser, testAsRoot } from "../files/fixtures/other-user.ts";
import { memoryPlugin } from "../process-group/fixtures/memory-backend.ts";
import { BackendRegistry } from "./backend-registry.ts";
import { builtInBackends } from "./built-in-backends.ts";
import { fileSystemDiscovery } from "./discovery.ts";

const root = realpathSync(mkdtempSync(join(tmpdir(), "c10d-discovery-")));
afterAll(() => rmSync(root, { recursive: true }));

let folders = 0;

/** An application's folder with these files; objects are written as JSON. */
function application(files: Readonly<Record<string, string | object>>): string {
  const folder = join(root, `app-${folders++}`);
  for (const [name, content] of Object.entries(files)) {
    const file = join(folder, name);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, typeof content === "string" ? content : JSON.stringify(content));
  }
  return folder;
}

/** Source of a module with a plugin. It counts how often modules of its kind were run, in `globalThis[counter]`. */
function pluginSource(name: string, changes = "", wrap: (plugin: string) => string = (plugin) => plugin): string {
  const plugin = `{
    name: ${JSON.stringify(name)}, type: 5, sdk: 2, devices: ["cpu"], bootstrap: "store", capabilities: { ops: {}, reduceOps: {} },
    probe: async () => ({ available: true, version: "7.0" }),
    create: async () => { throw new Error("no peers"); },
    ${changes}
  }`;
  return `globalThis.c10dTestLoads = [...(globalThis.c10dTestLoads ?? []), import.meta.url];\nexport default ${wrap(plugin)};\n`;
}

/** Files of `root` that have been loaded. */
function loadedFrom(folder: string): string[] {
  const { c10dTestLoads: loads = [] } = globalThis as { readonly c10dTestLoads?: readonly string[] };
  return loads.filter((url) => url.startsWith(`file://${folder}/`)).map((url) => url.slice(`file://${folder}/`.length));
}

function registryFor(cwd: string, C10D_BACKENDS?: string): BackendRegistry {
  return new BackendRegistry(builtInBackends, fileSystemDiscovery({ cwd, env: { C10D_BACKENDS } }));
}

async function refusal(promise: Promise<unknown>): Promise<BackendUnavailableError> {
  const error = await promise.then(
    () => new Error("it was found"),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(BackendUnavailableError);
  return error as BackendUnavailableError;
}

describe("C10D_BACKENDS", () => {
  const folder = application({
    "one.ts": pluginSource("one"),
    "sub/several.js": pluginSource("two", "", (two) => `[${two}, { ...${two}, name: "three" }]`),
    "node_modules/four-backend/package.json": { name: "four-backend", main: "lib.js" },
    "node_modules/four-backend/lib.js": pluginSource("four"),
  });

  test("files, lists of plugins and packages; loaded on first use of a backend, once", async () => {
    const registry = registryFor(folder, ` ./one.ts, sub/several.js ,${folder}/sub/several.js,, four-backend,`);
    expect([registry.has("one"), loadedFrom(folder)]).toEqual([false, []]);
    // A path without "./" is the name of a package, as everywhere.
    const error = await refusal(registry.get("one"));
    expect(error.message).toBe(
      'C10D_BACKENDS entry "sub/several.js": no package has this name; write ./sub/several.js for the file',
    );
    expect(error.code).toBe("BACKEND_LOAD_FAILED");

    const right = registryFor(folder, ` ./one.ts, ./sub/several.js ,,four-backend,file://${folder}/one.ts`);
    const [one, again] = await Promise.all([right.get("one"), right.get("ONE")]);
    expect([one.name, again === one]).toEqual(["one", true]);
    for (const name of ["two", "three", "four"]) expect(await right.require(name)).toMatchObject({ name });
    expect(right.names()).toEqual([...builtInBackends.map(({ name }) => name), "one", "two", "three", "four"]);
    expect(loadedFrom(folder)).toEqual(["one.ts", "sub/several.js", "node_modules/four-backend/lib.js"]);
    expect(right.originOf("one")).toBe('C10D_BACKENDS entry "./one.ts"');
    expect([right.originOf("gloo"), right.originOf("two")]).toEqual([
      "built in",
      'C10D_BACKENDS entry "./sub/several.js"',
    ]);
  });

  test("unset or empty there is nothing", async () => {
    for (const list of [undefined, "", " , "]) {
      const registry = registryFor(folder, list);
      expect((await refusal(registry.get("one"))).code).toBe("UNKNOWN_BACKEND");
    }
  });

  const broken = application({
    "throws.ts": 'throw new Error("half written");',
    "syntax.ts": "export default {",
    "no-default.ts": `export const plugin = {};`,
    "null.ts": "export default null;",
    "empty.ts": "export default [];",
    "no-create.ts": pluginSource("lazy", "create: undefined,"),
    "second.ts": pluginSource("first", "", (first) => `[${first}, { name: "second", sdk: 2 }]`),
    "future.ts": pluginSource("future", "sdk: 9,"),
    "gloo.ts": pluginSource("gloo", "type: 1,"),
    "first.ts": pluginSource("first"),
  });

  test.each<[string, string]>([
    ["./absent.ts", `no such module, seen from ${broken}`],
    ["absent-package", `not installed for ${broken}`],
    ["https://example.com/x.js", "only packages and files can be loaded"],
    ["data:text/javascript,export default 1", "only packages and files can be loaded"],
    ["./throws.ts", `${broken}/throws.ts cannot be loaded: half written`],
    ["./syntax.ts", `${broken}/syntax.ts cannot be loaded: `],
    ["./no-default.ts", `${broken}/no-default.ts has no default export; it should be the plugin, or a list of plugins`],
    [
      "./null.ts",
      "the default export is not a plugin for this package: a plugin is an object with name, create() and so on, got null",
    ],
    ["./empty.ts", "the default export is an empty list"],
    [
      "./no-create.ts",
      'the default export is not a plugin for this package: backend "lazy" must have a method create(), got undefined',
    ],
    [
      "./second.ts",
      'item 1 of the default export is not a plugin for this package: backend "second" must have the type BackendType.CUSTOM',
    ],
  ])("%s is an error that says where it comes from", async (entry, message) => {
    const text = entry.split(",")[0] ?? entry;
    const error = await refusal(registryFor(broken, text).get("fake"));
    expect(error.message).toStartWith(`C10D_BACKENDS entry "${text}": ${message}`);
    expect(error.code).toBe("BACKEND_LOAD_FAILED");
  });

  test("a plugin for another SDK", async () => {
    const error = await refusal(registryFor(broken, "./future.ts").get("future"));
    expect(error.code).toBe("SDK_MISMATCH");
    expect(error.message).toContain('backend "future" was written for backend SDK 9, this bun-c10d has SDK 2');
  });

  test("the name of a built-in backend needs a replacement in code", async () => {
    const registry = registryFor(broken, "./gloo.ts");
    const error = await refusal(registry.get("gloo"));
    expect(error.code).toBe("BACKEND_EXISTS");
    expect(error.message).toBe(
      'C10D_BACKENDS entry "./gloo.ts": backend "gloo" is built in; to replace it, say so in code: registerBackend(plugin, { replace: true })',
    );
    const { default: own } = await import(join(broken, "gloo.ts"));
    registry.register(own, { replace: true });
    expect(await registry.get("gloo")).toBe(own);
  });

  test("a name twice", async () => {
    const other = application({ "a.ts": pluginSource("same"), "b.ts": pluginSource("same") });
    const registry = registryFor(other, "./a.ts,./b.ts");
    expect((await refusal(registry.get("same"))).message).toContain(
      'C10D_BACKENDS entry "./b.ts": backend "same" is already known, from C10D_BACKENDS entry "./a.ts"',
    );
    const inCode = registryFor(other, "./a.ts");
    inCode.register(memoryPlugin("same"));
    expect((await refusal(inCode.get("same"))).message).toContain('backend "same" is already registered');
  });

  test("one that is registered in code and also named is the same", async () => {
    const { default: one } = await import(join(folder, "one.ts"));
    const registry = registryFor(folder, "./one.ts");
    registry.register(one);
    expect(await registry.get("one")).toBe(one);
    const moved = registryFor(folder, "./one.ts");
    moved.register({ ...one });
    expect((await refusal(moved.get("one"))).code).toBe("BACKEND_EXISTS");
  });

  test("a failed load is tried again", async () => {
    const late = application({ "package.json": {} });
    const registry = registryFor(late, "./late.ts");
    await refusal(registry.get("late"));
    writeFileSync(join(late, "late.ts"), pluginSource("late"));
    expect(await registry.get("late")).toMatchObject({ name: "late" });
  });
});

describe("packages that declare backends", () => {
  const folder = application({
    "package.json": {
      name: "app",
      dependencies: { "ring-backend": "1", "@scope/tree": "1", plain: "1", "not-installed": "1" },
      devDependencies: { "dev-backend": "1" },
      c10d: { backends: { own: "./own.ts" } },
    },
    "own.ts": pluginSource("own"),
    "deep/down/package-less.txt": "",
    "node_modules/ring-backend/package.json": {
      name: "ring-backend",
      exports: { ".": "./index.js" },
      c10d: { backends: { ring: "./ring", "ring-2": "./both.js", "ring-3": "./both.js" } },
    },
    "node_modules/ring-backend/ring.ts": pluginSource("ring"),
    "node_modules/ring-backend/both.js": pluginSource("ring-2", "", (two) => `[${two}, { ...${two}, name: "ring-3" }]`),
    "node_modules/@scope/tree/package.json": {
      name: "@scope/tree",
      c10d: { backends: { tree: "./missing.js", misnamed: "./misnamed.js", gloo: "./gloo.js" } },
    },
    "node_modules/@scope/tree/misnamed.js": pluginSource("other-name"),
    "node_modules/@scope/tree/gloo.js": pluginSource("gloo", "type: 1,"),
    "node_modules/plain/package.json": { name: "plain", c10d: {} },
    "node_modules/dev-backend/package.json": { name: "dev-backend", c10d: { backends: { dev: "./dev.js" } } },
    "node_modules/dev-backend/dev.js": pluginSource("dev"),
    "node_modules/indirect/package.json": { name: "indirect", c10d: { backends: { indirect: "./x.js" } } },
    "node_modules/indirect/x.js": pluginSource("indirect"),
  });
  const tree = `package "@scope/tree" (${folder}/node_modules/@scope/tree/package.json)`;

  test("are found from any folder of the application, and each is loaded on first use", async () => {
    const registry = registryFor(join(folder, "deep/down"));
    expect(registry.has("ring")).toBe(false);
    await registry.get("fake");
    expect([registry.has("ring"), loadedFrom(folder)]).toEqual([false, []]);
    expect(await registry.get("Ring")).toMatchObject({ name: "ring" });
    expect(loadedFrom(folder)).toEqual(["node_modules/ring-backend/ring.ts"]);
    expect(registry.originOf("ring")).toBe(`package "ring-backend" (${folder}/node_modules/ring-backend/package.json)`);
    for (const name of ["ring-2", "ring-3", "dev", "own"]) expect(await registry.get(name)).toMatchObject({ name });
    const unknown = await refusal(registry.get("indirect"));
    expect(unknown.code).toBe("UNKNOWN_BACKEND");
    expect(unknown.message).toContain("known are gloo");
    expect(loadedFrom(folder)).not.toContain("node_modules/indirect/x.js");
  });

  test("a missing entry, or another backend", async () => {
    const registry = registryFor(folder);
    const missing = await refusal(registry.get("tree"));
    expect(missing.message).toBe(
      `backend "tree" cannot be loaded: ${tree}: no such module, seen from ${folder}/node_modules/@scope/tree`,
    );
    expect(missing.code).toBe("BACKEND_LOAD_FAILED");
    expect((await refusal(registry.get("misnamed"))).message).toContain(
      `${tree}: ./misnamed.js is declared as backend "misnamed", but its plugin is called "other-name"`,
    );
  });

  test("a built-in name: the built-in backend stays, and discover() reports it", async () => {
    const registry = registryFor(folder);
    expect((await registry.get("gloo")).module).toContain("/backends/gloo/");
    const faults = await registry.discover();
    expect(faults).toEqual([
      {
        origin: tree,
        message:
          'backend "gloo" is built in; to replace it, say so in code: registerBackend(plugin, { replace: true })',
      },
    ]);
    expect(registry.names()).toEqual([
      ...builtInBackends.map(({ name }) => name),
      ...["own", "ring", "ring-2", "ring-3", "tree", "misnamed", "dev"],
    ]);
  });

  test("registered in code takes precedence over declared", async () => {
    const registry = registryFor(folder);
    const mine = memoryPlugin("ring");
    registry.register(mine);
    expect(await registry.get("ring")).toBe(mine);
    await registry.discover();
    expect(await registry.get("ring")).toBe(mine);
    expect(() => registry.register(memoryPlugin("dev"))).toThrow(
      `backend "dev" is already known, from package "dev-backend"`,
    );
  });

  test.each<[string, unknown, string]>([
    ["a list", ["./x.js"], '"c10d" must be an object: write "c10d": { "backends": { "name": "./entry.js" } }'],
    ["backends as text", { backends: "./x.js" }, '"c10d.backends" must be an object: write'],
    ["a bad name", { backends: { "My Ring": "./x.js" } }, `"-" and "_", got "My Ring"`],
    ["no path", { backends: { ring: 5 } }, '"c10d.backends.ring" must be the path of a module in the package'],
    ["another package", { backends: { ring: "elsewhere" } }, 'such as "./entry.js", got "elsewhere"'],
    ["a path out of the package", { backends: { ring: "./../../x.js" } }, 'got "./../../x.js"'],
    ["an absolute path", { backends: { ring: "/tmp/x.js" } }, 'got "/tmp/x.js"'],
  ])("a wrong declaration, %s", async (_, c10d, message) => {
    const app = application({
      "package.json": { name: "app", dependencies: { bad: "1" } },
      "node_modules/bad/package.json": { name: "bad", c10d },
    });
    const registry = registryFor(app);
    const error = await refusal(registry.get("ring"));
    expect(error.code).toBe("UNKNOWN_BACKEND");
    expect(error.message).toContain(`\npackage "bad" (${app}/node_modules/bad/package.json): `);
    expect(error.message).toContain(message);
  });

  test("a name that two packages declare", async () => {
    const declaring = (name: string) => ({
      [`node_modules/${name}/package.json`]: { name, c10d: { backends: { ring: "./ring.js" } } },
      [`node_modules/${name}/ring.js`]: pluginSource("ring"),
    });
    const app = application({
      "package.json": { dependencies: { a: "1", b: "1" } },
      ...declaring("a"),
      ...declaring("b"),
    });
    const registry = registryFor(app);
    const error = await refusal(registry.get("ring"));
    expect(error.message).toContain(`package "b" (${app}/node_modules/b/package.json): backend "ring" is declared by`);
    expect(error.message).toContain(`package "a" (${app}/node_modules/a/package.json) too; register the one you mean`);
    expect(loadedFrom(app)).toEqual([]);
  });

  test("package.json that is not JSON, or not an object", async () => {
    for (const content of ["{", "[]"]) {
      const app = application({ "package.json": content });
      const error = await refusal(registryFor(app).get("ring"));
      expect(error.message).toContain(`\n${app}/package.json: unreadable: `);
    }
  });

  test("names that are properties of every object are unknown", async () => {
    const registry = registryFor(folder);
    for (const name of ["__proto__", "constructor", "../../own.ts", "./own.ts", "node:fs"]) {
      expect((await refusal(registry.get(name))).code).toBe("UNKNOWN_BACKEND");
    }
  });
});

describe("files that another user may have put there", () => {
  /** A folder with a package.json, a dependency, and a folder `mine/deep` to work in. */
  const planted = () =>
    application({
      "package.json": { name: "bait", dependencies: { dep: "1" }, c10d: { backends: { bait: "./bait.ts" } } },
      "bait.ts": pluginSource("bait"),
      "node_modules/dep/package.json": { name: "dep", main: "dep.js", c10d: { backends: { dep: "./dep.js" } } },
      "node_modules/dep/dep.js": pluginSource("dep"),
      "mine/deep/file": "",
    });
  const fate = async (cwd: string, name: string) => {
    const registry = registryFor(cwd);
    const error = await refusal(registry.get(name));
    expect(loadedFrom(root).filter((file) => file.includes("bait") || file.includes("dep.js"))).toEqual([]);
    return { code: error.code, message: error.message, faults: await registry.discover() };
  };

  test.each([0o777, 0o1777])("a folder above that any user can write to, mode %o, is not searched", async (mode) => {
    const folder = planted();
    chmodSync(folder, mode);
    const { code, message, faults } = await fate(join(folder, "mine/deep"), "bait");
    const manifest = join(folder, "package.json");
    const reason = `not used, since ${folder} can be changed by anybody (mode ${mode.toString(8).padStart(4, "0")}).`;
    expect(code).toBe("UNKNOWN_BACKEND");
    expect(message).toContain(
      `\n${manifest}: ${reason} If you trust what it declares, name the file of the backend in C10D_BACKENDS`,
    );
    expect(faults).toEqual([{ origin: manifest, message: expect.stringContaining(reason) }]);
    rmSync(manifest);
    expect((await fate(join(folder, "mine/deep"), "bait")).faults).toEqual([]);
  });

  test("nor are a package.json and a file that any user can write to", async () => {
    const folder = planted();
    chmodSync(join(folder, "bait.ts"), 0o666);
    expect(await fate(folder, "bait")).toMatchObject({
      code: "UNTRUSTED_MODULE",
      message: expect.stringContaining(`${folder}/bait.ts can be changed by anybody (mode 0666)`),
    });
    chmodSync(join(folder, "package.json"), 0o666);
    expect((await fate(folder, "bait")).message).toContain(`${folder}/package.json can be changed by anybody`);
  });

  test("nor are dependencies above such a folder, or in one", async () => {
    const folder = planted();
    const own = application({ "package.json": { dependencies: { dep: "1" } } });
    rmSync(join(folder, "package.json"));
    symlinkSync(own, join(folder, "link"));
    const inner = join(folder, "mine");
    writeFileSync(join(inner, "package.json"), JSON.stringify({ dependencies: { dep: "1" } }));
    openToAll(folder);
    chmodSync(folder, 0o1777);
    expect(await fate(inner, "dep")).toMatchObject({ code: "UNKNOWN_BACKEND", faults: [] });
    chmodSync(folder, 0o755);
    openToAll(join(folder, "node_modules"));
    expect((await fate(inner, "dep")).faults).toEqual([
      {
        origin: `${folder}/node_modules/dep/package.json`,
        message: expect.stringContaining(`${folder}/node_modules can be changed by anybody`),
      },
    ]);
  });

  testAsRoot("what another user owns: the folder, package.json, a dependency, the module", async () => {
    const parts = ["", "package.json", "node_modules/dep", "node_modules/dep/package.json", "node_modules/dep/dep.js"];
    for (const part of parts) {
      const folder = planted();
      giveAway(join(folder, part));
      expect(await fate(join(folder, "mine/deep"), "dep")).toMatchObject({
        code: part.endsWith("dep.js") ? "UNTRUSTED_MODULE" : "UNKNOWN_BACKEND",
        message: expect.stringContaining(`${join(folder, part)} belongs to another user (uid ${otherUser})`),
      });
    }
  });

  testAsRoot("a dependency that is a link to another user's folder", async () => {
    const [folder, theirs] = [planted(), planted()];
    rmSync(join(folder, "node_modules/dep"), { recursive: true });
    symlinkSync(join(theirs, "node_modules/dep"), join(folder, "node_modules/dep"));
    giveAway(join(theirs, "node_modules/dep"));
    expect((await fate(folder, "dep")).message).toContain(`${theirs}/node_modules/dep belongs to another user`);
  });

  test("C10D_BACKENDS: a path is trusted because the user names it; a package is not, since another user may have placed it", async () => {
    const folder = planted();
    openToAll(folder, join(folder, "node_modules/dep"));
    chmodSync(folder, 0o1777);
    const mine = join(folder, "mine");
    const error = await refusal(registryFor(mine, "dep").get("dep"));
    expect(error.code).toBe("UNTRUSTED_MODULE");
    expect(error.message).toStartWith('C10D_BACKENDS entry "dep": not used, since ');
    expect(await registryFor(mine, "../bait.ts").get("bait")).toMatchObject({ name: "bait" });
    expect(await registryFor(mine, "../node_modules/dep/dep.js").get("dep")).toMatchObject({ name: "dep" });
  });
});

describe("discover()", () => {
  test("collects faults and continues", async () => {
    const app = application({
      "package.json": { dependencies: { bad: "1" } },
      "node_modules/bad/package.json": { name: "bad", c10d: 1 },
      "good.ts": pluginSource("good"),
    });
    const registry = registryFor(app, "./absent.ts,./good.ts");
    const faults = await registry.discover();
    expect(faults.map(({ origin }) => origin)).toEqual([
      'C10D_BACKENDS entry "./absent.ts"',
      `package "bad" (${app}/node_modules/bad/package.json)`,
    ]);
    expect(faults[0]?.message).toBe(`no such module, seen from ${app}`);
    expect(registry.has("good")).toBe(true);
    expect(await registry.get("good")).toMatchObject({ name: "good" });
  });

  test("a registry without discovery looks nowhere", async () => {
    const registry = new BackendRegistry(builtInBackends);
    expect(await registry.discover()).toEqual([]);
    expect((await refusal(registry.get("ring"))).code).toBe("UNKNOWN_BACKEND");
  });
});
