import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { libraryPlaces } from "./library-places.ts";
import { loadedFile } from "./loaded-file.ts";

const folder = realpathSync(mkdtempSync(join(tmpdir(), "c10d-nccl-")));
chmodSync(folder, 0o755);
afterAll(() => rmSync(folder, { recursive: true }));

const noCompiler = Bun.which("cc") === null ? "there is no C compiler, cc" : undefined;
if (noCompiler !== undefined) console.log(`skip tests with libraries made for them: ${noCompiler}`);
const testCompiled = test.skipIf(noCompiler !== undefined);

/** Compiles a library that calls itself NCCL of this version. */
function compile(path: string, version: number, more = "", soname = "libnccl.so.2"): string {
  const file = join(folder, path);
  mkdirSync(dirname(file), { recursive: true });
  const source = join(folder, "nccl.c");
  writeFileSync(source, `int ncclGetVersion(int *to) { *to = ${version}; return 0; }\n${more}`);
  const flags = ["-shared", "-fPIC", `-Wl,-soname,${soname}`];
  const { exitCode, stderr } = Bun.spawnSync(["cc", ...flags, "-o", file, source]);
  if (exitCode !== 0) throw new Error(stderr.toString());
  return file;
}

/** What a process gets that asks for these, one after another; `-` is no option. */
function load(asked: readonly string[], env: Readonly<Record<string, string>>) {
  const home = join(folder, "home");
  mkdirSync(home, { recursive: true });
  const { stdout, stderr } = Bun.spawnSync(
    [process.execPath, join(import.meta.dir, "fixtures/load-nccl.ts"), ...asked],
    {
      env: { PATH: process.env.PATH ?? "", HOME: home, ...env },
      cwd: folder,
    },
  );
  if (stdout.length === 0) throw new Error(stderr.toString());
  return JSON.parse(stdout.toString()) as Record<string, unknown>[];
}

const inPackage = "lib/python3.12/site-packages/nvidia/nccl/lib/libnccl.so.2";

describe("libnccl.so.2", () => {
  let [named, older, venv] = ["", "", ""];
  beforeAll(() => {
    if (noCompiler !== undefined) return;
    named = compile("named/libnccl.so.2.30.7", 23007);
    older = compile("older/libnccl.so.2", 21700);
    venv = compile(`venv/${inPackage}`, 22203);
  });

  testCompiled("is that of the option before C10D_NCCL_LIBRARY, the loader and Python", () => {
    const env = { C10D_NCCL_LIBRARY: older, LD_LIBRARY_PATH: dirname(older), VIRTUAL_ENV: join(folder, "venv") };
    expect(load([named], env)).toEqual([{ path: named, version: 23007 }]);
    expect(load(["-"], { ...env, C10D_NCCL_LIBRARY: named })).toEqual([{ path: named, version: 23007 }]);
    const byLoader = { ...env, C10D_NCCL_LIBRARY: "", LD_LIBRARY_PATH: dirname(venv) };
    expect(load(["-"], { ...byLoader, VIRTUAL_ENV: "" })).toEqual([{ path: venv, version: 22203 }]);
    expect(load(["-"], { VIRTUAL_ENV: join(folder, "venv") })).toEqual([{ path: venv, version: 22203 }]);
    expect(load(["-"], { CONDA_PREFIX: join(folder, "venv") })).toEqual([{ path: venv, version: 22203 }]);
  });

  testCompiled("is loaded once, so another file is refused", () => {
    const [first, again, other] = load([named, "-", venv], {});
    expect([again]).toEqual([first]);
    expect(other?.message).toBe(
      `backend "nccl": this process uses ${named} already: it cannot use ${venv} (options.library) as well`,
    );
  });

  testCompiled("is refused under another SONAME, by which the shim would not find it", () => {
    const file = compile("other/libnccl-mine.so", 23007, "", "libnccl-mine.so");
    const message = `backend "nccl": ${file} does not call itself libnccl.so.2`;
    expect(load([file], {})).toMatchObject([{ message: expect.stringContaining(message) }]);
    // Its name alone is no help.
    const renamed = compile("other/libnccl.so.2", 23007, "", "libnccl-mine.so");
    expect(load(["-"], { C10D_NCCL_LIBRARY: renamed })).toMatchObject([
      { error: "BackendUnavailableError", message: expect.stringContaining("its SONAME is another") },
    ]);
  });

  testCompiled("is refused if it is too old, with its version and path", () => {
    const [result] = load([older], {});
    expect(result).toMatchObject({
      error: "BackendUnavailableError",
      message: `backend "nccl": ${older} is NCCL 2.17.0, which is too old: this backend needs 2.18.0 or later`,
    });
  });

  testCompiled("in place of which an emulator was put says so", () => {
    const file = compile("emulator/libnccl.so.2", 23007, 'const char *ncclemu_name(void) { return "NCCL emulator"; }');
    expect(load([file], {})).toEqual([{ path: file, version: 23007, emulator: "NCCL emulator" }]);
  });

  testCompiled("must be a library of NCCL", () => {
    const text = join(folder, "text.so");
    writeFileSync(text, "not a library");
    expect(load([text], {})[0]?.message).toStartWith(`backend "nccl": cannot load ${text}: `);
  });

  testCompiled("that a stranger may have written is not loaded", () => {
    const open = compile("open/libnccl.so.2", 23007);
    chmodSync(open, 0o777);
    expect(load([open], {})).toMatchObject([{ code: "UNTRUSTED_LIBRARY" }]);
    const found = compile(`shared/${inPackage}`, 23007);
    chmodSync(join(folder, "shared/lib"), 0o777);
    const [result] = load(["-"], { VIRTUAL_ENV: join(folder, "shared") });
    expect(result).toMatchObject({ code: "UNTRUSTED_LIBRARY" });
    expect(result?.message).toContain(`if you trust it, set C10D_NCCL_LIBRARY to its path`);
    expect(load(["-"], { C10D_NCCL_LIBRARY: found })).toMatchObject([{ code: "UNTRUSTED_LIBRARY" }]);
    const link = join(folder, "link.so");
    symlinkSync(found, link);
    expect(load(["-"], { C10D_NCCL_LIBRARY: link })).toMatchObject([{ code: "UNTRUSTED_LIBRARY" }]);
    chmodSync(join(folder, "shared/lib"), 0o755);
    expect(load(["-"], { C10D_NCCL_LIBRARY: link })).toEqual([{ path: found, version: 23007 }]);
  });

  test("that the user names has to be there", () => {
    const [byOption] = load(["/no/libnccl.so.2"], {});
    expect(byOption).toMatchObject({
      code: "NCCL_NOT_FOUND",
      message: 'backend "nccl": there is no /no/libnccl.so.2, which options.library names',
    });
    const [byVariable] = load(["-"], { C10D_NCCL_LIBRARY: "/no/libnccl.so.2" });
    expect(byVariable?.message).toContain("which C10D_NCCL_LIBRARY names");
  });

  test("a file of that name in the current folder is not loaded", () => {
    writeFileSync(join(folder, "libnccl.so.2"), "not a library");
    const [result] = load(["-"], {});
    // A machine that has NCCL loads that.
    const message = result?.message ?? "";
    expect(String(message)).not.toContain(`${folder}/libnccl.so.2`);
    rmSync(join(folder, "libnccl.so.2"));
  });

  testCompiled("that is not found: the error lists where it was looked for", () => {
    const [result] = load(["-"], { VIRTUAL_ENV: join(folder, "venv-without"), CONDA_PREFIX: join(folder, "conda") });
    if (result?.version !== undefined) return expect(result.path).not.toContain(folder);
    expect(result?.message).toContain("libnccl.so.2 was not found. Looked at:");
    expect(result?.message).toContain("libnccl.so.2, by the dynamic loader (");
    expect(result?.message).toContain(`${folder}/conda/lib/libnccl.so.2, by CONDA_PREFIX (absent)`);
  });
});

/** Environments of Python into which `./bootstrap` may have installed NVIDIA's NCCL. */
const wheels = ["nccl", "torch-2.14"].map((name) => join(import.meta.dir, "../../../.tools", name));
const withNccl = wheels.find((venv) => {
  return (
    existsSync(venv) &&
    libraryPlaces(undefined, { VIRTUAL_ENV: venv }).some(({ path, by }) => by === "VIRTUAL_ENV" && existsSync(path))
  );
});
if (withNccl === undefined) console.log(`skip the test of NVIDIA's NCCL: none of ${wheels.join(", ")} has it`);

test.skipIf(withNccl === undefined)("NVIDIA's library is found in Python's package, and is no emulator", () => {
  const venv = realpathSync(withNccl ?? "");
  const [found] = load(["-"], { VIRTUAL_ENV: withNccl ?? "" });
  // The system may have one of its own, which comes first.
  expect(found?.error).toBeUndefined();
  expect(found?.emulator).toBeUndefined();
  expect(Number(found?.version)).toBeGreaterThanOrEqual(21800);
  if (String(found?.path).startsWith(venv)) expect(String(found?.path)).toEndWith("/nvidia/nccl/lib/libnccl.so.2");
});

describe("where it is looked for", () => {
  test("newer versions of Python first, in the active environments, the user's and the system's site", () => {
    const venv = join(folder, "several");
    for (const name of ["python3.9", "python3.12", "python3", "python2.7", "other"]) {
      mkdirSync(join(venv, "lib", name), { recursive: true });
    }
    const places = libraryPlaces(undefined, { VIRTUAL_ENV: venv, CONDA_PREFIX: venv });
    const found = places.filter(({ by }) => by === "VIRTUAL_ENV").map(({ path }) => path.slice(venv.length));
    expect(found).toEqual(
      ["python3.12", "python3.9", "python3"].map((name) => `/lib/${name}/site-packages/nvidia/nccl/lib/libnccl.so.2`),
    );
    expect(places[0]).toEqual({ path: "libnccl.so.2", by: "the dynamic loader", kind: "loader" });
    const conda = places.filter(({ by }) => by === "CONDA_PREFIX");
    expect(conda[0]?.path).toBe(`${venv}/lib/libnccl.so.2`);
    for (const { path, by } of places) if (by === "Python's user site") expect(path).toStartWith(homedir());
  });

  test("a file that the user names is the only one", () => {
    expect(libraryPlaces("/a", { C10D_NCCL_LIBRARY: "/b" })).toEqual([
      { path: "/a", by: "options.library", kind: "user" },
    ]);
    expect(libraryPlaces(undefined, { C10D_NCCL_LIBRARY: "/b" })).toEqual([
      { path: "/b", by: "C10D_NCCL_LIBRARY", kind: "user" },
    ]);
  });
});

describe("the libraries of this process", () => {
  const maps = [
    "7f00-7f01 r-xp 00000000 08:01 1 /opt/my libs/libnccl.so.2.30.7",
    "7f02-7f03 r-xp 00000000 08:01 2 /opt/libncclx.so.2",
    "7f04-7f05 r-xp 00000000 00:00 0 ",
    "7f06-7f07 r-xp 00000000 08:01 3 /opt/libcuda.so.1 (deleted)",
  ].join("\n");

  test.each([
    ["libnccl.so.2", "/opt/my libs/libnccl.so.2.30.7"],
    ["libcuda.so.1", "/opt/libcuda.so.1"],
    ["libncclx.so", "/opt/libncclx.so.2"],
    ["libnccl.so.2.3", undefined],
    ["libother.so", undefined],
  ])("%s", (name, path) => {
    expect(loadedFile(name, maps)).toBe(path);
  });

  test("libc is one of them", () => {
    expect(loadedFile("libc.so.6")).toEndWith("/libc.so.6");
  });
});
