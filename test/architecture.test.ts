import { describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";

// The table of who may import what is biome.json, where the linter reads it. These tests read the same table and hold
// it against the whole import graph, also where the linter does not look: import types, lazy imports, cycles.

const root = resolve(import.meta.dir, "..");

interface Override {
  readonly includes: readonly string[];
  readonly linter?: {
    readonly rules?: {
      readonly style?: {
        readonly noRestrictedImports?:
          | "off"
          | { readonly options: { readonly patterns: readonly { readonly group: readonly string[] }[] } };
      };
    };
  };
}

interface Import {
  readonly file: string;
  readonly specifier: string;
  readonly lazy: boolean;
}

const { overrides }: { overrides: readonly Override[] } = JSON.parse(readFileSync(join(root, "biome.json"), "utf8"));

/** The patterns that hold for a file, from the last override that speaks of its imports; `undefined` without one. */
function patternsFor(file: string): readonly string[] | undefined {
  const rules = overrides.flatMap(({ includes, linter }) => {
    const rule = linter?.rules?.style?.noRestrictedImports;
    return rule !== undefined && includes.some((glob) => new Bun.Glob(glob).match(file)) ? [rule] : [];
  });
  const last = rules.at(-1);
  return last === "off" ? [] : last?.options.patterns.flatMap(({ group }) => group);
}

/** As in a .gitignore, the last pattern that matches decides. */
function isBanned(file: string, specifier: string): boolean {
  const last = patternsFor(file)?.findLast((pattern) => new Bun.Glob(pattern.replace(/^!/, "")).match(specifier));
  return last !== undefined && !last.startsWith("!");
}

const sources = [...new Bun.Glob("src/**/*.ts").scanSync({ cwd: root })].sort();
const shipped = sources.filter((file) => !/\.test\.ts$|\/fixtures\//.test(file));
const text = (file: string): string => readFileSync(join(root, file), "utf8");
const target = ({ file, specifier }: Import): string => relative(root, resolve(root, dirname(file), specifier));
const room = (file: string): string => file.split("/")[1] ?? file;
const shown = ({ file, specifier }: Import): string => `${file} imports ${specifier}`;

const imports: readonly Import[] = shipped.flatMap((file) => {
  const code = text(file);
  const found = (pattern: RegExp, lazy: boolean): Import[] =>
    [...code.matchAll(pattern)].flatMap(({ 1: specifier }) => (specifier ? [{ file, specifier, lazy }] : []));
  return [
    ...found(/^(?:import|export)\b(?:[^"';]*?\bfrom)?\s*"([^"]+)"/gm, false),
    ...found(/^(?!\s*(?:\*|\/\/)).*?\b(?:import|require)\(\s*"([^"]+)"/gm, true),
  ];
});
const internal = imports.filter(({ specifier }) => specifier.startsWith("."));

describe("imports point one way", () => {
  test("every file has a rule", () => {
    expect(shipped.filter((file) => patternsFor(file) === undefined)).toEqual([]);
  });

  test("no file breaks its rule", () => {
    expect(internal.length).toBeGreaterThan(0);
    expect(internal.filter(({ file, specifier }) => isBanned(file, specifier)).map(shown)).toEqual([]);
  });

  test("no file takes the way round by the package's own name", () => {
    expect(imports.filter(({ specifier }) => /^bun-c10d(\/|$)/.test(specifier)).map(shown)).toEqual([]);
  });

  test("the folders of src form no cycle", () => {
    const edges = new Map<string, Set<string>>();
    for (const each of internal.filter(({ lazy }) => !lazy)) {
      const [from, to] = [room(each.file), room(target(each))];
      if (from !== to) edges.set(from, (edges.get(from) ?? new Set()).add(to));
    }
    const cycleFrom = (path: readonly string[]): readonly string[] | undefined => {
      for (const next of edges.get(path.at(-1) ?? "") ?? []) {
        if (path.includes(next)) return [...path, next];
        const cycle = cycleFrom([...path, next]);
        if (cycle) return cycle;
      }
      return undefined;
    };
    expect([...edges.keys()].map((start) => cycleFrom([start])).find((cycle) => cycle !== undefined)).toBeUndefined();
  });

  test("backends are reached only by lazy imports in one file of the registry", () => {
    const intoBackends = internal.filter(
      (each) => room(target(each)) === "backends" && !["backends", "testing"].includes(room(each.file)),
    );
    expect(intoBackends.filter(({ lazy }) => !lazy).map(shown)).toEqual([]);
    expect(new Set(intoBackends.map(({ file }) => file)).size).toBeLessThanOrEqual(1);
    expect(intoBackends.every(({ file }) => room(file) === "registry")).toBe(true);
  });
});

describe("the rules", () => {
  const forbidden: readonly (readonly [file: string, specifier: string])[] = [
    ["src/errors/a.ts", "../tensor/index.ts"],
    ["src/tensor/a.ts", "../collectives/op-type.ts"],
    ["src/collectives/a.ts", "../work/work.ts"],
    ["src/store/a.ts", "../backends/gloo/index.ts"],
    ["src/store/tcp/a.ts", "../../backends/gloo/index.ts"],
    ["src/work/a.ts", "../native/index.ts"],
    ["src/recorder/a.ts", "../registry/index.ts"],
    ["src/native/a.ts", "../store/store.ts"],
    ["src/registry/a.ts", "../process-group/process-group.ts"],
    ["src/registry/b.ts", "../store/tcp/client.ts"],
    ["src/backends/gloo/a.ts", "../mpi/index.ts"],
    ["src/backends/gloo/b.ts", "../../store/tcp/client.ts"],
    ["src/backends/gloo/c.ts", "../../distributed/index.ts"],
    ["src/process-group/a.ts", "../distributed/index.ts"],
    ["src/process-group/b.ts", "../backends/gloo/index.ts"],
    ["src/process-group/c.ts", "../middleware/index.ts"],
    ["src/middleware/a.ts", "../process-group/process-group.ts"],
    ["src/middleware/b.ts", "../store/tcp/client.ts"],
    ["src/distributed/a.ts", "../cli/main.ts"],
    ["src/distributed/b.ts", "../index.ts"],
    ["src/cli/a.ts", "../testing/index.ts"],
    ["src/index.ts", "./testing/index.ts"],
  ];
  const allowed: readonly (readonly [file: string, specifier: string])[] = [
    ["src/errors/z.ts", "./timeout.ts"],
    ["src/store/tcp/z.ts", "../store.ts"],
    ["src/recorder/z.ts", "../work/index.ts"],
    ["src/registry/z.ts", "../store/store.ts"],
    ["src/backends/gloo/z.ts", "../native-backend.ts"],
    ["src/backends/gloo/y.ts", "../../registry/backend.ts"],
    ["src/backends/z.ts", "../native/index.ts"],
    ["src/process-group/z.ts", "../registry/backend.ts"],
    ["src/middleware/z.ts", "../registry/backend.ts"],
    ["src/distributed/z.ts", "../middleware/round-robin.ts"],
    ["src/cli/z.ts", "../distributed/index.ts"],
    ["src/registry/z.test.ts", "../testing/index.ts"],
  ];

  test("say no where the design says no", () => {
    expect(forbidden.filter(([file, specifier]) => !isBanned(file, specifier))).toEqual([]);
    expect(allowed.filter(([file, specifier]) => isBanned(file, specifier))).toEqual([]);
  });

  test("are enforced by the linter", async () => {
    const folder = mkdtempSync(join(tmpdir(), "architecture-"));
    try {
      await Bun.write(join(folder, "biome.json"), JSON.stringify({ overrides }));
      await Promise.all(
        [...forbidden, ...allowed].map(([file, specifier]) =>
          Bun.write(join(folder, file), `export * from "${specifier}";\n`),
        ),
      );
      const biome = join(root, "node_modules/@biomejs/biome/bin/biome");
      const run = Bun.spawn([process.execPath, biome, "lint", "--reporter=json", "--max-diagnostics=none", "."], {
        cwd: folder,
        stdout: "pipe",
        stderr: "ignore",
        timeout: 20_000,
      });
      const report: { diagnostics: { category: string; location: { path: string } }[] } = JSON.parse(
        await run.stdout.text(),
      );
      const reported = report.diagnostics.filter(({ category }) => category === "lint/style/noRestrictedImports");
      expect(reported.map(({ location }) => location.path).sort()).toEqual(forbidden.map(([file]) => file).sort());
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

test('of Effect, only "effect/Data" is loaded with the library', () => {
  const transpiler = new Bun.Transpiler({ loader: "ts" });
  const seen = new Set<string>();
  const packages = new Set<string>();
  const visit = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    for (const { kind, path } of transpiler.scanImports(text(file))) {
      if (kind !== "import-statement") continue;
      if (path.startsWith(".")) visit(target({ file, specifier: path, lazy: false }));
      else packages.add(path);
    }
  };
  visit("src/index.ts");
  expect(seen.size).toBeGreaterThan(10);
  expect([...packages].filter((name) => /^(@effect\/|effect(\/|$))/.test(name) && name !== "effect/Data")).toEqual([]);
});
