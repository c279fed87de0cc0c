import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, normalize } from "node:path";
import packageJson from "../../package.json" with { type: "json" };
import { sweepFromEnvironment } from "../../src/testing/backend-suite/backend-suite.ts";
import { type Chapter, exampleOf, readTutorial, root } from "./tutorial.ts";

// The package as a user gets it: packed, installed in a folder outside the repository, and used there.

setDefaultTimeout(420_000);
const LIMIT_MS = 400_000;
const tarball = `${packageJson.name}-${packageJson.version}.tgz`;
const chapters = readTutorial();
const folder = mkdtempSync(join(tmpdir(), "bun-c10d-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const full = process.env.C10D_SWEEP === "full";
const { seed } = sweepFromEnvironment();

/** The environment without the variables that the repository's own scripts set. */
const environment = {
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(C10D|TORCH)_|^FORCE_COLOR$/.test(name))),
  C10D_SEED: String(seed),
  PATH: `${join(folder, "bin")}:${dirname(process.execPath)}:${process.env.PATH}`,
  NO_COLOR: "1",
};

/** The output of a command; throws it if the command fails. */
async function run(command: string, cwd: string): Promise<string> {
  const shell = Bun.spawn(["sh", "-c", `exec 2>&1; ${command}`], {
    cwd,
    env: environment,
    stdin: "ignore",
    stdout: "pipe",
    timeout: LIMIT_MS,
  });
  const [output, code] = await Promise.all([shell.stdout.text(), shell.exited]);
  if (code !== 0) throw new Error(`${command}: ${shell.signalCode ?? `exit code ${code}`}\n${output.slice(-6_000)}`);
  return output;
}

async function write(files: ReadonlyMap<string, string>, into: string): Promise<void> {
  await Promise.all([...files].map(([path, text]) => Bun.write(join(into, path), text)));
}

beforeAll(async () => {
  // The tests of examples/ compile the same files with optimization, which takes twice as long.
  const compiler = Bun.which("c++");
  if (!full && compiler !== null) {
    mkdirSync(join(folder, "bin"));
    writeFileSync(join(folder, "bin/c++"), `#!/bin/sh\nexec '${compiler}' "$@" -O0\n`, { mode: 0o755 });
  }
  await run(`bun pm pack --quiet --destination "${folder}"`, root);
});

describe("the package", () => {
  let packed: string[];
  const unpacked = join(folder, "package");
  beforeAll(async () => {
    await run(`tar xzf ${tarball}`, folder);
    packed = [...new Bun.Glob("**").scanSync({ cwd: unpacked })].sort();
  });

  test("has the files it needs and no others", () => {
    const tops = new Set(packed.map((path) => path.split("/")[0]));
    expect([...tops].sort()).toEqual(["CHANGELOG.md", "LICENSE", "README.md", "docs", "native", "package.json", "src"]);
    expect(packed.filter((path) => /\.test\.ts$|\/fixtures\/|native\/(.*\/)?tests\//.test(path))).toEqual([]);
    expect(packed).toContain("native/c10d.h");
    expect(packed).toContain("native/engine/transport.h");
    expect(packed).toContain("src/testing/backend-suite/rank.ts");
    expect(packed).toContain("src/cli/dashboard/page/index.html");
    const bytes = packed.reduce((sum, path) => sum + Bun.file(join(unpacked, path)).size, 0);
    const compressed = Bun.file(join(folder, tarball)).size;
    console.log(`package: ${packed.length} files, ${bytes >> 10} KiB, packed ${compressed >> 10} KiB`);
    expect(bytes).toBeLessThan(4.25 * 2 ** 20);
    expect(compressed).toBeLessThan(1216 << 10);
  });

  test("includes every picture and page that its pages show and link to", () => {
    const pages = packed.filter((path) => path.endsWith(".md"));
    const wanted = pages.flatMap((path) => {
      const found = readFileSync(join(unpacked, path), "utf8").matchAll(/\]\((?![a-z]+:|#)([^)#\s]+\.\w+)/g);
      return [...found].map(([, target = ""]) => normalize(join(dirname(path), target)));
    });
    expect(wanted).toContain("docs/dashboard.png");
    expect([...new Set(wanted)].filter((path) => path.startsWith("docs/") && !packed.includes(path))).toEqual([]);
  });

  test("includes every file that it imports", () => {
    const sources = packed.filter((path) => path.endsWith(".ts"));
    const wanted = sources.flatMap((path) => {
      const code = readFileSync(join(unpacked, path), "utf8").replace(/^\s*(\*|\/\/|\/\*).*$/gm, "");
      const found = code.matchAll(/(?:from|import\(|import|new URL\()\s*"(\.[^"]+\.(?:ts|json|sh))"/g);
      return [...found].map(([, specifier = ""]) => normalize(join(dirname(path), specifier)));
    });
    expect(wanted.length).toBeGreaterThan(sources.length);
    expect([...new Set(wanted)].filter((path) => !packed.includes(path))).toEqual([]);
  });
});

describe("in another project", () => {
  const project = join(folder, "project");
  beforeAll(async () => {
    mkdirSync(project);
    await Bun.write(join(project, "package.json"), '{ "name": "project", "private": true, "type": "module" }');
    await run(`bun add ../${tarball}`, project);
  });

  test("every entry point can be imported, and all share their classes", async () => {
    const entries = Object.keys(packageJson.exports).filter((entry) => !entry.endsWith(".json"));
    const code = `
      const [index, ...others] = await Promise.all(${JSON.stringify(entries)}.map((entry) =>
        import(entry.replace(".", "bun-c10d"))));
      const { nativePlugin, includeDirectory } = others.find((each) => "nativePlugin" in each);
      const plugin = nativePlugin({ name: "none", sdk: 2, library: "/none.so", remedy: "r", capabilities: { ops: {}, reduceOps: {} } });
      const error = await plugin.create({}).catch((thrown) => thrown);
      console.log(JSON.stringify({
        names: [index, ...others].map((each) => Object.keys(each).length),
        shared: error instanceof index.BackendUnavailableError,
        header: await Bun.file(includeDirectory + "/c10d.h").exists(),
      }));`;
    await Bun.write(join(project, "imports.ts"), code);
    const { names, shared, header } = JSON.parse(await run("bun imports.ts", project));
    expect(names).toHaveLength(entries.length);
    expect(names.every((count: number) => count > 0)).toBe(true);
    expect({ shared, header }).toEqual({ shared: true, header: true });
  });

  test("its command runs", async () => {
    const info = JSON.parse(await run("bun c10d info --json", project));
    expect(info.package).toEqual({ name: packageJson.name, version: packageJson.version });
    expect(info.backends.map(({ name }: { name: string }) => name)).toContain("fake");
    expect(await run("bun c10d --help", project)).toContain("Usage: c10d");
  });

  if (!full) console.log("skip: c10d build in an installed package (a minute of compiling): only with C10D_SWEEP=full");
  test.skipIf(!full)("its command builds the shims, and then a backend is available", async () => {
    expect(await run("bun c10d build", project)).toContain(
      "run bun c10d info to list the backends that are now available",
    );
    const info = JSON.parse(await run("bun c10d info --json", project));
    type Backend = { name: string; available: boolean };
    expect(info.backends.find(({ name }: Backend) => name === "gloo").available).toBe(true);
  });

  test("its own tests run without a native library", async () => {
    const code = `
      import { expect, test } from "bun:test";
      import { localRanks } from "bun-c10d/testing";

      test("four ranks", async () => {
        const sums = await localRanks(4, async ({ rank, group }) => {
          const tensor = Float32Array.of(rank);
          await group.allReduce(tensor);
          return tensor[0];
        });
        expect(sums).toEqual([6, 6, 6, 6]);
      });`;
    await Bun.write(join(project, "sum.test.ts"), code);
    expect(await run("bun test sum.test.ts", project)).toContain("1 pass");
  });
});

describe("the tutorial", () => {
  const place = join(folder, "tutorial");
  const [preparation, inTypeScript, inC, overEngine, byName] = chapters as [
    Chapter,
    Chapter,
    Chapter,
    Chapter,
    Chapter,
  ];
  const compilers = Bun.which("cc") !== null && Bun.which("c++") !== null;
  if (!compilers) console.log("skip: the native chapters of the tutorial, there is no C and C++ compiler (cc, c++)");

  // The files are those of examples/, whose tests run the suite with every number of ranks.
  const ranks = [2, 3, 4][seed % 3];
  if (!full) console.log(`sample: the suite in the tutorial with ${ranks} ranks, C10D_SEED=${seed}`);

  /** Runs the commands of a chapter; resolves to their output. */
  async function follow({ files, commands }: Chapter): Promise<string> {
    await write(files, place);
    let output = "";
    for (const command of commands) {
      if (!compilers && command.includes("shm")) continue;
      const isSampled = !full && command.startsWith("bun test ");
      output += await run(isSampled ? `${command} --test-name-pattern ', ${ranks} ranks '` : command, place);
    }
    return output;
  }

  function expectPassed(output: string, backend: string): void {
    if (!full) {
      expect(output).toContain(`\nsample: backend ${backend}, `);
      expect(Number(/^ (\d+) pass$/m.exec(output)?.[1])).toBeGreaterThan(25);
      expect(output).toMatch(/^ 0 fail$/m);
      return;
    }
    const [line = "", cases, passed] =
      /^suite: backend (?:\S+): (\d+) cases .* left out; (\d+) passed, \d+ checks$/m.exec(output) ?? [];
    console.log(line);
    expect(line).toStartWith(`suite: backend ${backend}: `);
    expect(Number(cases)).toBeGreaterThan(80);
    expect(passed).toBe(cases);
    expect(output).toMatch(/^ 0 fail$/m);
  }

  // The chapters are independent, and mostly wait.
  const outputs = new Map<Chapter, Promise<string>>();
  beforeAll(async () => {
    mkdirSync(place);
    await run(`cp ${tarball} tutorial`, folder);
    await follow(preparation);
    for (const chapter of compilers ? [inTypeScript, inC, overEngine] : [inTypeScript]) {
      const output = follow(chapter);
      output.catch(() => {}); // Reported by the test that awaits it.
      outputs.set(chapter, output);
    }
  });
  const outputOf = (chapter: Chapter): Promise<string> =>
    outputs.get(chapter) ?? Promise.reject(new Error(`chapter "${chapter.title}" was not started`));

  test("prints the examples as they are (bun test/packaging/tutorial.ts --write)", () => {
    const files = chapters.flatMap((chapter) => [...chapter.files]);
    const examples = files.flatMap(([file, text]) => {
      const example = exampleOf(file);
      return example === undefined ? [] : [{ file, text, example }];
    });
    expect(examples.length).toBeGreaterThan(10);
    for (const { text, example } of examples) {
      expect(existsSync(example)).toBe(true);
      expect(text).toBe(readFileSync(example, "utf8"));
    }
  });

  test("adds the package by the name of its file", () => {
    expect(preparation.commands[0]).toBe(`bun add ./${tarball}`);
  });

  test("ends with a backend in TypeScript that passes the suite", async () => {
    const output = await outputOf(inTypeScript);
    expectPassed(output, "sockets");
    expect(output).toContain("3 ranks summed, broadcast and passed messages on");
  });

  test.skipIf(!compilers)("ends with a backend in C that passes the suite", async () => {
    const output = await outputOf(inC);
    expectPassed(output, "shm");
    expect(output).toContain("3 ranks shared memory");
  });

  test.skipIf(!compilers)("ends with a backend over the engine that passes the suite", async () => {
    expectPassed(await outputOf(overEngine), "shm-engine");
  });

  test("type-checks, and the backends are found by name", async () => {
    await Promise.all(outputs.values());
    const output = await follow(byName);
    expect(output).toContain("sockets (CUSTOM) for cpu: available, version 1.0");
    if (compilers) expect(output).toContain("shm (CUSTOM) for cpu: available, version shared memory 1.0");
    const lines = output.match(/\d+ ranks, average rank .*/g);
    const three = "3 ranks, average rank 1";
    expect(lines).toEqual(compilers ? [three, three, "2 ranks, average rank 0.5"] : [three]);
  });
});
