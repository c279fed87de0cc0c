// The table of allowed imports: the floors of src. Writes the linter's rules to import-rules.generated.json; with
// --check it only reports whether that file is up to date. The architecture test checks the import graph against the
// same table.
import { existsSync } from "node:fs";
import { resolve } from "node:path";

interface Room {
  /** Path below src; `*` stands for any one folder. */
  readonly path: string;
  /** What its files may import besides each other: rooms, or single files, of lower floors. */
  readonly imports: readonly string[];
}

const room = (path: string, ...imports: string[]): Room => ({ path, imports });

const pure = ["errors", "environment", "time", "tensor", "collectives"];
const upToWork = [...pure, "work"];
/** Backends use the store interface, but no implementation of it. */
const contract = "store/store.ts";

/** The rooms of src, from the ground floor up. */
export const rooms: readonly Room[] = [
  room("errors"),
  room("pickle", "errors"),
  room("environment", "errors"),
  room("time", "errors"),
  room("files", "errors"),
  room("trace", "errors", "pickle", "time"),
  room("tensor", "errors", "environment", "time", "files"),
  room("collectives", "errors", "time", "tensor"),
  room("work", "errors", "time", "tensor", "collectives"),
  room("recorder", ...upToWork, "files", "pickle"),
  room("status", ...upToWork, "files"),
  room("store", "errors", "environment", "time", "files"),
  room("rendezvous", "errors", "environment", "time", "files", "store"),
  room("native", ...upToWork, "files"),
  room("registry", ...upToWork, "files", "recorder", contract),
  room("backends/native", ...upToWork, "files", "native", "registry", contract),
  room("backends/*", ...upToWork, "files", "native", "registry", "backends/native", contract),
  room("middleware", ...upToWork, "registry", contract),
  room("process-group", ...upToWork, "recorder", "status", "registry", contract),
  room(
    "distributed",
    ...upToWork,
    "recorder",
    "status",
    "store",
    "rendezvous",
    "registry",
    "middleware",
    "process-group",
  ),
  room("ddp", ...upToWork, "registry", "store/store.ts", "process-group", "distributed"),
  room(
    "control",
    ...upToWork,
    "files",
    "trace",
    "recorder",
    "status",
    "store",
    "registry",
    "process-group",
    "distributed",
  ),
  room(
    "testing",
    ...upToWork,
    "files",
    "recorder",
    "status",
    "store",
    "rendezvous",
    "native",
    "registry",
    "backends/*",
    "middleware",
    "process-group",
    "distributed",
  ),
  room(
    "cli",
    ...upToWork,
    "files",
    "pickle",
    "trace",
    "status",
    "store",
    "rendezvous",
    "native",
    "registry",
    "process-group",
    "distributed",
  ),
];

/** The one file that reaches the built-in backends, by lazy imports. */
export const backendsLoader = "src/registry/built-in-backends.ts";

/** The room of a file; of two matches, such as backends/native and backends/*, the one without a wildcard. */
export function roomOf(file: string): Room | undefined {
  return rooms.find(({ path }) => new Bun.Glob(`src/${path}/**`).match(file));
}

/** Whether one file of src may import another one. */
export function mayImport(file: string, target: string): boolean {
  const [from, to] = [roomOf(file), roomOf(target)];
  if (target === "package.json") return true;
  if (from === undefined || to === undefined) return false;
  if (from.path === to.path) return folderOf(from, file) === folderOf(to, target);
  return from.imports.some((each) => each === to.path || `src/${each}` === target);
}

/** The folder of a file's room: for `backends/*`, the folder of the backend. */
function folderOf({ path }: Room, file: string): string {
  return file.split("/", path.split("/").length + 1).join("/");
}

/** Files of src that the rules apply to. */
export function shippedFiles(root: string): string[] {
  const files = [...new Bun.Glob("src/**/*.ts").scanSync({ cwd: root })];
  return files.filter((file) => !/\.test\.ts$|\/fixtures\//.test(file)).sort();
}

function rule(includes: string, group: readonly string[], message: string): object {
  const options = { patterns: [{ group, message }] };
  return {
    includes: [includes],
    linter: { rules: { style: { noRestrictedImports: { level: "error", options } } } },
  };
}

/** One rule for each folder depth, which determines how many `../` lead out of a room. */
function rulesOf({ path, imports }: Room, depths: number): object[] {
  const above = path.split("/").length;
  return Array.from({ length: depths }, (_, depth) => {
    const out = "../".repeat(depth + 1);
    const src = "../".repeat(depth + above);
    const allowed = imports.map((each) => {
      const named = each.endsWith(".ts") ? each : `${each}/**`;
      // A room in the same parent folder is reached without leaving it.
      const [parent = ""] = path.split("/");
      return above > 1 && each.startsWith(`${parent}/`)
        ? `!${out}${named.slice(parent.length + 1)}`
        : `!${src}${named}`;
    });
    const loader = path === "registry" && depth === 0 ? [`!${out}backends/*/plugin.ts`] : [];
    const group = [`${out}**`, ...allowed, `!${src}../package.json`, ...loader];
    const includes = `src/${path}/${"*/".repeat(depth)}*.ts`;
    return rule(includes, group, `Imports point one way (CONTRIBUTING.md): ${path} may not import this.`);
  });
}

/** The overrides that the linter reads. */
export function importRules(root: string): { overrides: object[] } {
  const files = shippedFiles(root);
  const rules = rooms.flatMap((each) => {
    const own = files.filter((file) => roomOf(file) === each);
    const depths = own.map((file) => file.split("/").length - 1 - each.path.split("/").length);
    return rulesOf(each, Math.max(1, ...depths));
  });
  // The last matching rule applies, so the rules of `backends/*` come before those of single rooms.
  const general = rules.filter((each) => JSON.stringify(each).includes('"includes":["src/backends/*/'));
  const special = rules.filter((each) => !general.includes(each));
  const entries = rule(
    "src/*.ts",
    ["./testing/**", "./cli/**", "./backends/**"],
    "Entry points re-export the library; backends are loaded by the registry when asked for.",
  );
  const off = { linter: { rules: { style: { noRestrictedImports: "off" } } } };
  return {
    overrides: [...general, ...special, entries, { includes: ["src/**/*.test.ts", "src/**/fixtures/**"], ...off }],
  };
}

if (import.meta.main) {
  const root = resolve(import.meta.dir, "..");
  const path = resolve(import.meta.dir, "import-rules.generated.json");
  const text = `${JSON.stringify(importRules(root), null, 2)}\n`;
  const isCurrent = existsSync(path) && (await Bun.file(path).text()) === text;
  if (process.argv.includes("--check")) {
    if (!isCurrent) console.error("import-rules.generated.json is out of date: bun run generate");
    process.exitCode = isCurrent ? 0 : 1;
  } else if (!isCurrent) await Bun.write(path, text);
}
