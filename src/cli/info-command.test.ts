import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import packageJson from "../../package.json" with { type: "json" };
import glooPlugin from "../backends/gloo/plugin.ts";
import { giveAway, otherUser, testAsRoot } from "../files/fixtures/other-user.ts";
import { ABI_VERSION } from "../native/abi.generated.ts";
import { builtInBackends } from "../registry/built-in-backends.ts";
import { BACKEND_SDK_VERSION } from "../registry/index.ts";
import type { BackendInfo, Info } from "./info.ts";

setDefaultTimeout(30_000);

const noCompiler = Bun.which("cc") === null ? "there is no C compiler, cc" : undefined;
if (noCompiler !== undefined) console.log(`skip c10d info with a shim for another ABI: ${noCompiler}`);

const main = join(import.meta.dir, "main.ts");
const folder = realpathSync(mkdtempSync(join(tmpdir(), "c10d-info-")));
afterAll(() => rmSync(folder, { recursive: true }));

const plugin = (name: string, probe: string) => `export default {
  name: "${name}", type: 5, sdk: 2, devices: ["cpu", "cuda"], bootstrap: "self",
  capabilities: {
    ops: { broadcast: ["float32"], allReduce: ["int8", "float32"], barrier: [] },
    reduceOps: { float32: ["SUM", "AVG"], int8: ["SUM"] }, abort: true,
  },
  probe: async () => (${probe}),
  create: async () => { throw new Error("no peers"); },
};`;

/** Plugins whose probes do not report whether they can run. */
const oddProbes = `
  import named from "./named.ts";
  const odd = (name, probe) => ({ ...named, name, probe });
  export default [
    odd("hanging", () => new Promise(() => {})),
    odd("silent", async () => null),
    odd("vague", async () => ({ available: true })),
    odd("throwing", () => { throw new Error("no idea"); }),
  ];`;

const files: Readonly<Record<string, string>> = {
  "odd-probes.ts": oddProbes,
  "package.json": JSON.stringify({ name: "app", dependencies: { extras: "1", odd: "1" } }),
  "named.ts": plugin("named", `{ available: true, version: "2.1", library: { path: "/opt/libnamed.so", abi: 1 } }`),
  "node_modules/extras/package.json": JSON.stringify({
    name: "extras",
    c10d: { backends: { absent: "./absent.js", broken: "./broken.js" } },
  }),
  "node_modules/extras/absent.js": plugin(
    "absent",
    `{ available: false, reason: "libabsent.so is missing\\nin /opt", remedy: "apt-get install libabsent" }`,
  ),
  "node_modules/extras/broken.js": "export default 7;",
  "node_modules/odd/package.json": JSON.stringify({ name: "odd", c10d: { backends: "./x.js" } }),
};
for (const [name, content] of Object.entries(files)) {
  mkdirSync(dirname(join(folder, name)), { recursive: true });
  writeFileSync(join(folder, name), content);
}

/** Runs `c10d info` in the application's folder. */
function info(args: readonly string[], env: Readonly<Record<string, string | undefined>> = {}, cwd = folder) {
  const started = performance.now();
  const { stdout, stderr, exitCode } = Bun.spawnSync({
    cmd: [process.execPath, main, "info", ...args],
    cwd,
    env: { ...process.env, C10D_BACKENDS: "./named.ts,./missing.ts", ...env },
    timeout: 20_000,
  });
  expect([stderr.toString(), exitCode]).toEqual(["", 0]);
  return { text: stdout.toString(), ms: performance.now() - started };
}

function json(env: Readonly<Record<string, string | undefined>> = {}, ...flags: readonly string[]): Info {
  return JSON.parse(info(["--json", ...flags], env).text) as Info;
}

function backend(from: Info, name: string): BackendInfo {
  const found = from.backends.find((each) => each.name === name);
  if (found === undefined) throw new Error(`no backend ${name}`);
  return found;
}

describe("c10d info --json", () => {
  const shown = json({ WORLD_SIZE: "3", C10D_STORE_SECRET: "keep this private" }, "--probe");

  test("has all documented fields", async () => {
    const documented = await Bun.file(join(import.meta.dir, "../../docs/backends.md")).text();
    const section = documented.slice(documented.indexOf("## `c10d info`"));
    for (const field of [...Object.keys(shown), ...shown.backends.flatMap((each) => Object.keys(each))]) {
      expect(section).toContain(`\`${field}\``);
    }
    expect(Object.keys(shown)).toEqual([
      ...["package", "sdk", "abi", "bun", "platform", "backends", "problems", "environment"],
    ]);
    expect(shown).toMatchObject({
      package: { name: "bun-c10d", version: packageJson.version },
      sdk: BACKEND_SDK_VERSION,
      abi: ABI_VERSION,
      bun: Bun.version,
      platform: { os: process.platform, arch: process.arch, release: expect.any(String), cpus: expect.any(Number) },
    });
    for (const each of shown.backends) {
      const { available, ...rest } = each;
      const fields = available ? ["version"] : ["reason", "remedy"];
      expect(Object.keys(rest)).toEqual(
        expect.arrayContaining([
          "name",
          "type",
          "origin",
          "probed",
          "devices",
          "sdk",
          "module",
          "bootstrap",
          "capabilities",
          ...fields,
        ]),
      );
    }
  });

  test("built-in, named and declared backends", () => {
    expect(shown.backends.map(({ name, origin }) => [name, origin])).toEqual([
      ...builtInBackends.map(({ name }) => [name, "built in"] as [string, string]),
      ["named", 'C10D_BACKENDS entry "./named.ts"'],
      ["absent", `package "extras" (${folder}/node_modules/extras/package.json)`],
      ["broken", `package "extras" (${folder}/node_modules/extras/package.json)`],
    ]);
    expect(backend(shown, "gloo")).toMatchObject({
      type: "GLOO",
      devices: ["cpu"],
      sdk: 2,
      bootstrap: "store",
      module: glooPlugin.module,
      capabilities: JSON.parse(JSON.stringify(glooPlugin.capabilities)),
    });
  });

  test("an available backend shows its library, an unavailable one the reason and the remedy", () => {
    expect(backend(shown, "named")).toMatchObject({
      type: "CUSTOM",
      available: true,
      version: "2.1",
      module: null,
      library: { path: "/opt/libnamed.so", abi: 1 },
    });
    expect(backend(shown, "absent")).toMatchObject({
      available: false,
      reason: "libabsent.so is missing\nin /opt",
      remedy: "apt-get install libabsent",
    });
    expect(backend(shown, "broken")).toMatchObject({
      available: false,
      devices: [],
      sdk: null,
      module: null,
      bootstrap: null,
      capabilities: null,
      reason: expect.stringContaining("the default export is not a plugin for this package"),
      remedy: expect.stringContaining('check package "extras"'),
    });
  });

  test("backends whose probes do not report whether they can run", () => {
    const { backends } = json({ C10D_BACKENDS: "./odd-probes.ts" });
    const odd = backends.filter(({ origin }) => origin.includes("odd-probes"));
    const unsaid = "probe() of the plugin does not say whether it can run";
    expect(odd.map((each) => [each.name, each.available || each.reason, each.available || each.remedy])).toEqual([
      ["hanging", "probe() of the plugin had no answer within 5000 ms", 'look at the probe() of backend "hanging"'],
      ["silent", unsaid, 'look at the probe() of backend "silent"'],
      ["vague", unsaid, 'look at the probe() of backend "vague"'],
      ["throwing", "no idea", 'look at the probe() of backend "throwing"'],
    ]);
  });

  test("backends that were found but cannot be used", () => {
    expect(shown.problems).toEqual([
      { origin: 'C10D_BACKENDS entry "./missing.ts"', message: `no such module, seen from ${folder}` },
      {
        origin: `package "odd" (${folder}/node_modules/odd/package.json)`,
        message: expect.stringContaining('"c10d.backends" must be an object'),
      },
    ]);
  });

  test("the variables that are set, without the secret", () => {
    expect(shown.environment).toMatchObject({
      WORLD_SIZE: "3",
      C10D_BACKENDS: "./named.ts,./missing.ts",
      C10D_STORE_SECRET: "(set)",
    });
    expect(shown.environment).not.toHaveProperty("PATH");
  });
});

describe("c10d info", () => {
  test("prints readable text", () => {
    const { text } = info(["--probe"], { MASTER_ADDR: "host-7" });
    expect(text).toStartWith(`bun-c10d ${packageJson.version} (backend SDK ${BACKEND_SDK_VERSION}, shim ABI `);
    expect(text).toContain(`
  named (CUSTOM) for cpu, cuda: available, version 2.1
    library  /opt/libnamed.so (ABI 1)
    from     C10D_BACKENDS entry "./named.ts"
    ops      allReduce: int8 float32
             broadcast: float32
             barrier: no tensors
             made of others: allReduceCoalesced (allReduce)
             not: allReduceSparse `);
    expect(text).toContain(`
    reduce   int8: SUM
             float32: SUM AVG
    has      abort; not: recv from any source, sequence numbers
`);
    expect(text).toContain(`
  absent (CUSTOM) for cpu, cuda: not available
    because  libabsent.so is missing
             in /opt
    to do    apt-get install libabsent
`);
    expect(text).toContain(`\nProblems:\n  C10D_BACKENDS entry "./missing.ts": no such module, seen from ${folder}\n`);
    expect(text).toMatch(/\nEnvironment:\n(.*\n)* {2}MASTER_ADDR +host-7\n/);
  });

  test("loads what packages declare only with --probe", () => {
    const mark = join(folder, "was-loaded");
    const absent = join(folder, "node_modules/extras/absent.js");
    const source = readFileSync(absent, "utf8");
    writeFileSync(absent, `require("node:fs").writeFileSync(${JSON.stringify(mark)}, "");\n${source}`);
    const listed = json();
    expect(backend(listed, "absent")).toEqual({
      ...{ name: "absent", type: "CUSTOM", origin: `package "extras" (${folder}/node_modules/extras/package.json)` },
      ...{ probed: false, devices: [], sdk: null, module: null, bootstrap: null, capabilities: null },
      ...{
        available: false,
        reason: expect.stringContaining("it was not probed"),
        remedy: expect.stringContaining("--probe"),
      },
    });
    expect(listed.backends.filter(({ probed }) => !probed).map(({ name }) => name)).toEqual(["absent", "broken"]);
    expect(info([]).text).toContain(`
  absent (CUSTOM): not probed
    to do    c10d info --probe loads and probes it
    from     package "extras" (${folder}/node_modules/extras/package.json)
`);
    expect(existsSync(mark)).toBe(false);
    expect(backend(json({}, "--probe"), "absent").probed).toBe(true);
    expect(existsSync(mark)).toBe(true);
    writeFileSync(absent, source);
  });

  testAsRoot("neither reads nor runs what another user put into a parent folder", () => {
    const theirs = join(folder, "theirs");
    const mine = join(theirs, "deep/mine");
    mkdirSync(mine, { recursive: true });
    writeFileSync(join(theirs, "package.json"), JSON.stringify({ c10d: { backends: { bait: "./bait.js" } } }));
    const mark = join(folder, "bait-was-loaded");
    writeFileSync(
      join(theirs, "bait.js"),
      `require("node:fs").writeFileSync(${JSON.stringify(mark)}, "");\n${plugin("bait", "null")}`,
    );
    giveAway(theirs, join(theirs, "deep"), join(theirs, "package.json"), join(theirs, "bait.js"));
    for (const cwd of [mine, theirs]) {
      const seen = JSON.parse(info(["--json", "--probe"], { C10D_BACKENDS: undefined }, cwd).text) as Info;
      expect(seen.backends.map(({ name }) => name)).toEqual(builtInBackends.map(({ name }) => name));
      expect(seen.problems).toEqual([
        {
          origin: join(theirs, "package.json"),
          message: expect.stringContaining(`not used, since ${theirs} belongs to another user (uid ${otherUser})`),
        },
      ]);
    }
    expect(existsSync(mark)).toBe(false);
  });

  test("with an invalid gloo shim it says how to build one", () => {
    const empty = join(folder, "no-shims");
    mkdirSync(empty, { recursive: true });
    writeFileSync(join(empty, "libc10d_gloo.so"), "not a library");
    const gloo = backend(json({ C10D_NATIVE_DIR: empty }), "gloo");
    expect(gloo).toMatchObject({
      available: false,
      reason: expect.stringContaining(`cannot load ${empty}/libc10d_gloo.so`),
      remedy: expect.stringContaining("./bootstrap build"),
    });
  });

  test.skipIf(noCompiler !== undefined)("with a shim for another ABI it names the file and both versions", () => {
    const shims = join(folder, "other-shims");
    mkdirSync(shims, { recursive: true });
    writeFileSync(join(shims, "shim.c"), `unsigned c10d_abi_version(void) { return ${ABI_VERSION + 1}; }`);
    const library = join(shims, "libc10d_gloo.so");
    const compiled = Bun.spawnSync(["cc", "-shared", "-fPIC", "-o", library, join(shims, "shim.c")]);
    expect([compiled.stderr.toString(), compiled.exitCode]).toEqual(["", 0]);
    expect(backend(json({ C10D_NATIVE_DIR: shims }), "gloo")).toMatchObject({
      available: false,
      reason: expect.stringContaining(
        `${library} has shim ABI ${ABI_VERSION + 1}, this bun-c10d has ABI ${ABI_VERSION}: update bun-c10d, or rebuild it`,
      ),
      remedy: expect.stringContaining("./bootstrap build"),
    });
  });

  test("is quick", () => {
    const runs = [0, 1, 2].map(() => info([]).ms);
    // The goal is 200 ms; the rest is a margin for a busy machine.
    expect(Math.min(...runs)).toBeLessThan(1_500);
  });
});
