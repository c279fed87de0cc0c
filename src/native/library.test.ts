import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { BackendUnavailableError } from "../errors/index.ts";
import { giveAway, openToAll, otherUser, testAsRoot } from "../files/fixtures/other-user.ts";
import { ABI_VERSION } from "./abi.generated.ts";
import { loadShim, type ShimLocation } from "./library.ts";

const folder = mkdtempSync(join(tmpdir(), "c10d-shim-"));
const given = process.env.C10D_NATIVE_DIR;

afterAll(() => {
  rmSync(folder, { recursive: true });
  if (given === undefined) delete process.env.C10D_NATIVE_DIR;
  else process.env.C10D_NATIVE_DIR = given;
});

/** Functions of the shim ABI, as the header names them. */
const header = readFileSync(new URL("../../native/c10d.h", import.meta.url), "utf8");
const functions = [...new Set([...header.matchAll(/\b(c10d_[a-z_]+)\(/g)].map(([, name = ""]) => name))];

const noCompiler = Bun.which("cc") === null ? "there is no C compiler, cc" : undefined;
if (noCompiler !== undefined) console.log(`skip tests with libraries made for them: ${noCompiler}`);
const testCompiled = test.skipIf(noCompiler !== undefined);

/** Compiles a library that has only these functions; all but the two that return versions return 0. */
function compile(
  name: string,
  version: number,
  has: readonly string[],
  others: { readonly [name: string]: string } = {},
): string {
  const bodies = has.map((each) => {
    const other = others[each];
    if (other !== undefined) return other;
    if (each === "c10d_abi_version") return `unsigned ${each}(void) { return ${version}; }`;
    if (each === "c10d_probe")
      return `int ${each}(char *to, unsigned n) { __builtin_memcpy(to, "9.8.7", 5); return 5; }`;
    return `void *${each}(void) { return 0; }`;
  });
  const source = join(folder, `${name}.c`);
  const library = join(folder, `libc10d_${name}.so`);
  writeFileSync(source, bodies.join("\n"));
  const { exitCode, stderr } = Bun.spawnSync(["cc", "-shared", "-fPIC", "-o", library, source]);
  if (exitCode !== 0) throw new Error(stderr.toString());
  return library;
}

function refusal(location: ShimLocation): BackendUnavailableError {
  try {
    loadShim(location);
  } catch (error) {
    expect(error).toBeInstanceOf(BackendUnavailableError);
    return error as BackendUnavailableError;
  }
  throw new Error("it was loaded");
}

describe("loadShim", () => {
  beforeAll(() => {
    process.env.C10D_NATIVE_DIR = folder;
  });

  test("a missing shim: the places in their order, and what to do", () => {
    const error = refusal({ name: "nope", remedy: "Install libnope." });
    const [first, fromEnvironment, fromBuild, remedy, ...more] = error.message.split("\n");
    expect(first).toBe('backend "nope": no shim found. Looked at:');
    expect(fromEnvironment).toBe(`  ${folder}/libc10d_nope.so (absent)`);
    expect(fromBuild).toEndWith("/build/release/lib/libc10d_nope.so (absent)");
    expect([remedy, more]).toEqual(["Install libnope.", []]);
    expect(error.details.backend).toBe("nope");
    expect(refusal({ name: "nope" }).message).toEndWith("\nRun bun c10d build, or in a clone ./bootstrap build.");
  });

  test("a path is the only place", () => {
    const error = refusal({ name: "nope", path: "/nowhere/libmine.so" });
    expect(error.message).toContain("  /nowhere/libmine.so (absent)\nRun");
    expect(error.message).not.toContain(folder);
  });

  testCompiled("a library of this ABI is loaded, once", () => {
    const path = compile("right", ABI_VERSION, functions);
    const shim = loadShim({ name: "right" });
    expect([shim.name, shim.path, shim.version, shim.abi]).toEqual(["right", path, "9.8.7", ABI_VERSION]);
    expect(loadShim({ name: "right" })).toBe(shim);
    expect(loadShim({ name: "right", path })).toBe(shim);
  });

  testCompiled("a shim that cannot use its library is unavailable, in its own words", () => {
    const path = compile("lacking", ABI_VERSION, functions, {
      c10d_probe: "int c10d_probe(void) { return -12; }",
      c10d_last_failure: `struct failure { int size, status, mismatch, error, peer, ranks[2], capacity, bytes, reserved; void *list; char *text; };
        int c10d_last_failure(struct failure *to) {
          to->status = -12; to->error = 24; to->bytes = 12;
          __builtin_memcpy(to->text, "no libmine.so", 12);
          return -12;
        }`,
    });
    const error = refusal({ name: "lacking", path, remedy: "Install libmine." });
    expect(error.message).toStartWith('backend "lacking": no libmine.s: this process has no file descriptor left: ');
    expect(error.message).toEndWith("\nInstall libmine.");
    expect(error).toMatchObject({ code: "OUT_OF_DESCRIPTORS", details: { backend: "lacking" } });
  });

  testCompiled("on the main thread no shim is a hazard, in a Worker one without worker_end.h is", async () => {
    const path = compile("plain", ABI_VERSION, functions);
    expect(loadShim({ name: "plain" }).workerHazard).toBeUndefined();
    const worker = new Worker(new URL("./fixtures/worker-shim.ts", import.meta.url));
    const said = new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = (event) => reject(new Error(event.message));
    });
    worker.postMessage(path);
    expect(await said).toEqual({
      version: "9.8.7",
      workerHazard: expect.stringContaining("its shim does not include native/worker_end.h"),
    });
    worker.terminate();
  });

  const rebuild =
    "rebuild it with this package's native/c10d.h (its own shims: bun c10d build, or in a clone ./bootstrap build)";
  testCompiled.each([
    ["newer", ABI_VERSION + 998, functions, `update bun-c10d, or ${rebuild}`],
    ["newest", ABI_VERSION + 1, ["c10d_abi_version"], `update bun-c10d, or ${rebuild}`],
    ["older", ABI_VERSION - 1, functions, rebuild],
    ["oldest", 0, ["c10d_abi_version"], rebuild],
  ] as const)("another ABI, complete or not, is named with both versions: %s", (name, version, has, remedy) => {
    const path = compile(name, version, has);
    const error = refusal({ name });
    expect(error.code).toBe("ABI_MISMATCH");
    expect(error.message).toBe(
      `backend "${name}": ${path} has shim ABI ${version}, this bun-c10d has ABI ${ABI_VERSION}: ${remedy}`,
    );
  });

  testCompiled("a library that lacks functions is no shim", () => {
    const path = compile("partial", ABI_VERSION, ["c10d_abi_version", "c10d_submit"]);
    const error = refusal({ name: "partial" });
    expect(error.message).toStartWith(`backend "partial": cannot load ${path}: `);
    expect(error.message).toContain("c10d_");
    expect(error.cause).toBeInstanceOf(Error);
  });

  test("a file that is not a library", () => {
    writeFileSync(join(folder, "libc10d_text.so"), "not a library");
    expect(refusal({ name: "text" }).message).toContain(`cannot load ${folder}/libc10d_text.so: `);
  });
});

describe("a library that another user may have put there", () => {
  const root = resolve(import.meta.dir, "../..");
  const script = `
    import { loadShim } from "./library.ts";
    try { loadShim({ name: "bait" }); console.log("loaded"); }
    catch ({ code, message }) { console.log(code + "\\n" + message); }`;

  /** Result of loading `libc10d_bait.so`, which is not a library, by the code in `file`. */
  function load(file: string, env: Readonly<Record<string, string | undefined>> = {}): string {
    const { stdout, stderr } = Bun.spawnSync({
      cmd: [process.execPath, file],
      env: { ...process.env, C10D_NATIVE_DIR: undefined, ...env },
    });
    return stdout.toString() + stderr.toString();
  }

  function plant(file: string): string {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, "not a library");
    return file;
  }

  test("a bundle has no build tree, and none is looked for", async () => {
    const place = mkdtempSync(join(folder, "bundle-"));
    const entry = join(root, "src/native/library-entry.ts");
    const built = await Bun.build({
      entrypoints: [entry],
      files: { [entry]: script },
      target: "bun",
      outdir: join(place, "x/y"),
      naming: "z.js",
    });
    expect(built.success).toBe(true);
    const bundle = join(place, "x/y/z.js");
    plant(join(place, "build/release/lib/libc10d_bait.so"));
    const absent = "the build tree of this package (this code is a bundle: set C10D_NATIVE_DIR)";
    expect(load(bundle)).toContain(`no shim found. Looked at:\n  ${absent}\n`);
    // A package.json with this name does not make it the package if it belongs to another user.
    writeFileSync(join(place, "package.json"), JSON.stringify({ name: "other" }));
    expect(load(bundle)).toContain(absent);
    writeFileSync(join(place, "package.json"), JSON.stringify({ name: "bun-c10d" }));
    chmodSync(join(place, "package.json"), 0o666);
    expect(load(bundle)).toContain(absent);
    expect(load(bundle, { C10D_NATIVE_DIR: join(place, "build/release/lib") })).toContain("cannot load");
  });

  /** A copy of the part of the package that loads libraries. */
  function copyOfPackage(): { readonly code: string; readonly library: string } {
    const copy = mkdtempSync(join(folder, "package-"));
    for (const part of ["package.json", "src/native", "src/tensor", "src/errors", "src/files", "src/environment"]) {
      cpSync(join(root, part), join(copy, part), { recursive: true });
    }
    symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
    const code = join(copy, "src/native/load-bait.ts");
    writeFileSync(code, script);
    return { code, library: plant(join(copy, "build/release/lib/libc10d_bait.so")) };
  }

  test("one in the build tree that any user can change", () => {
    const { code, library } = copyOfPackage();
    expect(load(code)).toContain("cannot load");
    openToAll(library);
    expect(load(code)).toStartWith(
      `UNTRUSTED_LIBRARY\nbackend "bait": ${library} is not loaded, since ${library} can be changed by anybody (mode 0777): `,
    );
    chmodSync(library, 0o755);
    openToAll(dirname(library));
    expect(load(code)).toContain(`since ${dirname(library)} can be changed by anybody`);
  });

  testAsRoot("one in the build tree that belongs to another user; C10D_NATIVE_DIR names it all the same", () => {
    const { code, library } = copyOfPackage();
    giveAway(library);
    expect(load(code)).toContain(`since ${library} belongs to another user (uid ${otherUser}): check who owns it`);
    expect(load(code, { C10D_NATIVE_DIR: dirname(library) })).toContain("cannot load");
  });

  test("one that C10D_NATIVE_DIR names and any user can change", () => {
    const { code, library } = copyOfPackage();
    const named = { C10D_NATIVE_DIR: dirname(library) };
    chmodSync(library, 0o646);
    expect(load(code, named)).toContain(
      `since ${library} can be changed by anybody (mode 0646): remove that permission`,
    );
    chmodSync(library, 0o644);
    openToAll(dirname(library));
    expect(load(code, named)).toContain(`since ${dirname(library)} can be changed by anybody (mode 0777)`);
  });

  testAsRoot("one of a platform's package that was put beside a bundle", async () => {
    const place = mkdtempSync(join(folder, "bundle-"));
    const entry = join(root, "src/native/library-entry.ts");
    await Bun.build({
      entrypoints: [entry],
      files: { [entry]: script },
      target: "bun",
      outdir: join(place, "x"),
      naming: "z.js",
    });
    const library = plant(
      join(place, `node_modules/@bun-c10d/native-${process.platform}-${process.arch}/libc10d_bait.so`),
    );
    expect(load(join(place, "x/z.js"))).toContain("cannot load");
    giveAway(join(place, "node_modules"));
    expect(load(join(place, "x/z.js"))).toContain(`${library} is not loaded, since ${place}/node_modules belongs to`);
  });
});
