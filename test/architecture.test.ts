import { describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { backendsLoader, importRules, mayImport, roomOf, rooms, shippedFiles } from "../scripts/import-rules.ts";

// scripts/import-rules.ts has the table of allowed imports, and writes the linter's rules. These tests check it against
// the floors of the design and the whole import graph, including what the linter does not see: import types, lazy imports.

const root = resolve(import.meta.dir, "..");

interface Import {
  readonly file: string;
  readonly specifier: string;
  readonly lazy: boolean;
}

/** The rooms that the design names, from the ground floor up. Others may be between them. */
const design = [
  "errors",
  "environment",
  "tensor",
  "collectives",
  "work",
  "store",
  "rendezvous",
  "native",
  "registry",
  "backends/native",
  "backends/*",
  "middleware",
  "process-group",
  "distributed",
  "testing",
  "cli",
];

const shipped = shippedFiles(root);
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

describe("imports go one way", () => {
  test("the rooms are in the order of the design, and each may import only what is above it in the table", () => {
    expect(rooms.map(({ path }) => path).filter((path) => design.includes(path))).toEqual(design);
    const wrong = rooms.flatMap(({ path, imports }, at) =>
      imports.flatMap((each) => {
        const target = rooms.findIndex((room) => room.path === each || room === roomOf(`src/${each}`));
        return target >= 0 && target < at ? [] : [`${path} imports ${each}`];
      }),
    );
    expect(wrong).toEqual([]);
  });

  test("every file has a room", () => {
    expect(shipped.filter((file) => roomOf(file) === undefined)).toEqual(["src/index.ts"]);
  });

  test("every room of the table exists", () => {
    expect(rooms.filter((room) => !shipped.some((file) => roomOf(file) === room))).toEqual([]);
  });

  test("the folders of trace: no circle", () => {
    const order = ["text", "dump", "analysis", "output"];
    const folder = (file: string): number => order.indexOf(file.split("/")[2] ?? "");
    const inside = internal.filter(({ file }) => room(file) === "trace" && folder(file) >= 0);
    expect(new Set(inside.map(({ file }) => folder(file))).size).toBe(order.length);
    expect(inside.filter((each) => folder(target(each)) > folder(each.file)).map(shown)).toEqual([]);
  });

  test("no file imports what it may not", () => {
    expect(internal.length).toBeGreaterThan(100);
    const wrong = internal.filter((each) => each.file !== "src/index.ts" && !mayImport(each.file, target(each)));
    expect(wrong.filter(({ file, lazy }) => !(lazy && file === backendsLoader)).map(shown)).toEqual([]);
  });

  test("no file imports the package by its own name", () => {
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
    expect([...new Set(intoBackends.map(({ file }) => file))]).toEqual([backendsLoader]);
  });
});

describe("the rules of the linter", () => {
  const forbidden: readonly (readonly [file: string, specifier: string])[] = [
    ["src/errors/a.ts", "../tensor/index.ts"],
    ["src/tensor/a.ts", "../collectives/op-type.ts"],
    ["src/collectives/a.ts", "../work/work.ts"],
    ["src/store/a.ts", "../backends/gloo/index.ts"],
    ["src/store/tcp/wire/a.ts", "../../../backends/gloo/plugin.ts"],
    ["src/store/tcp/a.ts", "../../rendezvous/index.ts"],
    ["src/environment/a.ts", "../tensor/index.ts"],
    ["src/time/a.ts", "../environment/index.ts"],
    ["src/work/a.ts", "../native/index.ts"],
    ["src/recorder/a.ts", "../registry/index.ts"],
    ["src/native/a.ts", "../store/store.ts"],
    ["src/registry/a.ts", "../process-group/process-group.ts"],
    ["src/registry/b.ts", "../store/tcp/client.ts"],
    ["src/backends/gloo/a.ts", "../mpi/plugin.ts"],
    ["src/backends/native/a.ts", "../gloo/plugin.ts"],
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
    ["src/store/tcp/client/z.ts", "../wire/protocol.ts"],
    ["src/store/tcp/client/y.ts", "../../../time/index.ts"],
    ["src/recorder/z.ts", "../work/index.ts"],
    ["src/registry/z.ts", "../store/store.ts"],
    ["src/backends/gloo/z.ts", "../native/native-backend.ts"],
    ["src/backends/gloo/y.ts", "../../registry/index.ts"],
    ["src/backends/native/z.ts", "../../native/index.ts"],
    ["src/registry/y.ts", "../backends/gloo/plugin.ts"],
    ["src/process-group/z.ts", "../registry/backend.ts"],
    ["src/middleware/z.ts", "../registry/backend.ts"],
    ["src/distributed/z.ts", "../middleware/round-robin.ts"],
    ["src/cli/z.ts", "../distributed/index.ts"],
    ["src/registry/z.test.ts", "../testing/index.ts"],
  ];

  test("are generated from the table", async () => {
    const written = await Bun.file(join(root, "scripts/import-rules.generated.json")).json();
    expect(written).toEqual(JSON.parse(JSON.stringify(importRules(root))));
    const { extends: used } = await Bun.file(join(root, "biome.json")).json();
    expect(used).toEqual(["./scripts/import-rules.generated.json"]);
  });

  test("say no where the table says no", async () => {
    const folder = mkdtempSync(join(tmpdir(), "architecture-"));
    try {
      await Bun.write(join(folder, "biome.json"), JSON.stringify(importRules(root)));
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

describe("what the import of the package loads", () => {
  const transpiler = new Bun.Transpiler({ loader: "ts" });
  const files = new Set<string>();
  const packages = new Set<string>();
  const visit = (file: string): void => {
    if (files.has(file)) return;
    files.add(file);
    for (const { kind, path } of transpiler.scanImports(text(file))) {
      if (kind !== "import-statement") continue;
      if (path.startsWith(".")) visit(target({ file, specifier: path, lazy: false }));
      else packages.add(path);
    }
  };
  visit("src/index.ts");

  test('of Effect, only "effect/Data"', () => {
    expect(files.size).toBeGreaterThan(100);
    const effect = [...packages].filter((name) => /^(@effect\/|effect(\/|$))/.test(name));
    expect(effect.filter((name) => name !== "effect/Data")).toEqual([]);
  });

  test("of Bun's and Node's modules, only those that most files need: others take milliseconds", () => {
    const own = [...packages].filter((name) => /^(?:node|bun):/.test(name)).sort();
    expect(own).toEqual(["bun:ffi", "node:fs", "node:fs/promises", "node:os", "node:path", "node:util/types"]);
  });

  test.each([
    "src/backends/",
    "src/native/",
    "src/pickle/",
    "src/trace/",
    "src/testing/",
    "src/cli/",
    "src/status/own-status.ts",
    "src/status/status-record.ts",
    "src/recorder/trace-dump.ts",
    "src/middleware/desync/",
    "src/process-group/pipeline/call-boundary.ts",
    "src/control/http/",
    "src/store/redis/redis-session.ts",
  ])("nothing of %s, which only some programs need", (path) => {
    expect(shipped.filter((file) => file.startsWith(path)).length).toBeGreaterThan(0);
    expect([...files].filter((file) => file.startsWith(path))).toEqual([]);
  });
});
