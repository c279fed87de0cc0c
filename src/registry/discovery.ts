import { existsSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { environmentText } from "../environment/index.ts";
import { BackendUnavailableError, messageOf } from "../errors/index.ts";
import { untrustedOwnerAt } from "../files/index.ts";
import type { BackendPlugin } from "./contracts/backend-plugin.ts";
import { pluginFault } from "./plugin-shape.ts";

/** An entry of `C10D_BACKENDS`. */
export interface NamedModule {
  /** For messages: `C10D_BACKENDS entry "./mine.ts"`. */
  readonly origin: string;
  /** Loads it; the names of its backends are not known before. */
  load(): Promise<readonly BackendPlugin[]>;
}

/** A backend that a package declares in its package.json. */
export interface DeclaredBackend {
  readonly name: string;
  /** For messages: `package "mine" (/app/node_modules/mine/package.json)`. */
  readonly origin: string;
  load(): Promise<BackendPlugin>;
}

/** A declaration that cannot be used. */
export interface DiscoveryFault {
  readonly origin: string;
  readonly message: string;
}

export interface Declarations {
  readonly backends: readonly DeclaredBackend[];
  readonly faults: readonly DiscoveryFault[];
}

/** Finds backends that are not registered. */
export interface BackendDiscovery {
  namedModules(): readonly NamedModule[];
  declarations(): Declarations;
}

export interface DiscoveryPlace {
  /** Base of relative paths and of the search for the application's package.json. Default: the current folder. */
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/**
 * Finds backends in the modules that `C10D_BACKENDS` lists (`pkg,./file.ts`), and in the application's package.json and
 * those of its direct dependencies, which declare them: `"c10d": { "backends": { "name": "./entry" } }`.
 *
 * Modules are loaded when the program or the command line requests a backend, never because of network input. Files
 * that another user may have put there are neither read nor loaded, except those that `C10D_BACKENDS` names by path.
 */
export function fileSystemDiscovery(place: DiscoveryPlace = {}): BackendDiscovery {
  const cwd = () => place.cwd ?? process.cwd();
  return {
    namedModules: () => namedModules(environmentText("C10D_BACKENDS", place.env) ?? "", cwd()),
    declarations: () => declarationsOf(cwd()),
  };
}

function namedModules(list: string, cwd: string): NamedModule[] {
  const specifiers = list.split(",").map((each) => each.trim());
  return specifiers.filter(Boolean).map((specifier) => {
    const origin = `C10D_BACKENDS entry "${specifier}"`;
    return {
      origin,
      load: async () => pluginsIn(await defaultExport(specifier, cwd, { origin, named: true }), origin),
    };
  });
}

function pluginsIn(value: unknown, origin: string): readonly BackendPlugin[] {
  const plugins: readonly unknown[] = Array.isArray(value) ? value : [value];
  if (plugins.length === 0) throw unusable(origin, "the default export is an empty list");
  for (const [i, plugin] of plugins.entries()) {
    const fault = pluginFault(plugin);
    if (fault === undefined) continue;
    const what = Array.isArray(value) ? `item ${i} of the default export` : "the default export";
    const code = fault.field === "sdk" ? "SDK_MISMATCH" : "BACKEND_LOAD_FAILED";
    throw unusable(origin, `${what} is not a plugin for this package: ${fault.message}`, { code });
  }
  return plugins as readonly BackendPlugin[];
}

/** `named`: by the user, who may mean another user's file. A package name does not say which file that is. */
async function defaultExport(
  specifier: string,
  folder: string,
  { origin, named }: { readonly origin: string; readonly named: boolean },
): Promise<unknown> {
  if (/^[a-z][a-z0-9+.-]+:/i.test(specifier) && !specifier.startsWith("file:")) {
    throw unusable(origin, "only packages and files can be loaded");
  }
  const isPath = /^(\.{0,2}\/|file:)/.test(specifier);
  let file: string;
  try {
    file = Bun.resolveSync(specifier, folder);
  } catch (cause) {
    const isFile = !isPath && existsSync(join(folder, specifier));
    const reason = isFile
      ? `no package has this name; write ./${specifier} for the file`
      : `not installed for ${folder}`;
    throw unusable(origin, isPath ? `no such module, seen from ${folder}` : reason, { cause });
  }
  const stranger = named && isPath ? undefined : untrustedOwnerAt(file);
  if (stranger !== undefined) throw unusable(origin, notTrusted(file, stranger), { code: "UNTRUSTED_MODULE" });
  let module: { readonly default?: unknown };
  try {
    module = (await import(file.startsWith("/") ? Bun.pathToFileURL(file).href : file)) as typeof module;
  } catch (cause) {
    const reason = messageOf(cause);
    throw unusable(origin, `${file} cannot be loaded: ${reason}`, { cause });
  }
  if (module.default !== undefined) return module.default;
  throw unusable(origin, `${file} has no default export; it should be the plugin, or a list of plugins`);
}

function unusable(
  origin: string,
  message: string,
  init: { readonly code?: string; readonly cause?: unknown } = {},
): BackendUnavailableError {
  return new BackendUnavailableError(`${origin}: ${message}`, { code: "BACKEND_LOAD_FAILED", ...init });
}

function declarationsOf(cwd: string): Declarations {
  const backends: DeclaredBackend[] = [];
  const faults: DiscoveryFault[] = [];
  const application = nearestPackage(cwd, faults);
  if (application === undefined) return { backends, faults };
  for (const folder of [application, ...dependencyFolders(application, faults)]) {
    const manifest = readManifest(folder, faults);
    const declared = manifest?.c10d;
    if (declared === undefined) continue;
    const origin = `package "${String(manifest?.name ?? folder)}" (${join(folder, "package.json")})`;
    const entries = entriesOf(declared);
    if (typeof entries === "string") {
      faults.push({ origin, message: entries });
      continue;
    }
    for (const [name, entry] of entries) backends.push(declaredBackend(name, entry, folder, origin));
  }
  return { backends, faults };
}

function declaredBackend(name: string, entry: string, folder: string, origin: string): DeclaredBackend {
  return {
    name,
    origin,
    load: async () => {
      const value = await defaultExport(entry, folder, { origin, named: false });
      const plugins = pluginsIn(value, `${origin}, ${entry}`);
      const plugin = plugins.find((each) => each.name === name);
      if (plugin !== undefined) return plugin;
      const names = plugins.map((each) => `"${each.name}"`).join(", ");
      throw unusable(origin, `${entry} is declared as backend "${name}", but its plugin is called ${names}`);
    },
  };
}

/** The entries of a `c10d` field, or what is wrong with it. */
function entriesOf(field: unknown): readonly (readonly [name: string, entry: string])[] | string {
  const shape = 'write "c10d": { "backends": { "name": "./entry.js" } }';
  if (!isObject(field)) return `"c10d" must be an object: ${shape}`;
  const { backends } = field;
  if (backends === undefined) return [];
  if (!isObject(backends)) return `"c10d.backends" must be an object: ${shape}`;
  for (const [name, entry] of Object.entries(backends)) {
    if (!/^[a-z][a-z0-9_-]*$/.test(name)) {
      return `"c10d.backends": a backend's name is lower-case letters, digits, "-" and "_", got ${JSON.stringify(name)}`;
    }
    if (typeof entry !== "string" || !entry.startsWith("./") || entry.split("/").includes("..")) {
      return `"c10d.backends.${name}" must be the path of a module in the package, such as "./entry.js", got ${JSON.stringify(entry)}`;
    }
  }
  return Object.entries(backends) as [string, string][];
}

/** The nearest folder with a package.json, from `folder` upwards; undefined if another user may have put it there. */
function nearestPackage(folder: string, faults: DiscoveryFault[]): string | undefined {
  const above = ancestors(folder);
  const index = above.findIndex((each) => existsSync(join(each, "package.json")));
  const found = above[index];
  if (found === undefined) return undefined;
  const manifest = join(found, "package.json");
  const stranger = firstStranger([...above.slice(0, index + 1), manifest]);
  if (stranger === undefined) return found;
  faults.push({ origin: manifest, message: notTrusted(manifest, stranger) });
  return undefined;
}

function firstStranger(paths: readonly string[]): string | undefined {
  for (const path of paths) {
    const stranger = untrustedOwnerAt(path);
    if (stranger !== undefined) return stranger;
  }
  return undefined;
}

function dependencyFolders(application: string, faults: DiscoveryFault[]): string[] {
  const manifest = readManifest(application, faults) ?? {};
  const fields = ["dependencies", "optionalDependencies", "devDependencies", "peerDependencies"];
  const names = new Set(fields.flatMap((field) => (isObject(manifest[field]) ? Object.keys(manifest[field]) : [])));
  const above = ancestors(application);
  const end = above.findIndex((folder) => untrustedOwnerAt(folder) !== undefined);
  const places = end < 0 ? above : above.slice(0, end);
  return [...names].flatMap((name) => {
    // A dependency that is not installed is reported by the package manager.
    const folder = places
      .map((each) => join(each, "node_modules", name))
      .find((each) => existsSync(join(each, "package.json")));
    if (folder === undefined) return [];
    const dependency = join(folder, "package.json");
    const stranger = untrustedOwnerAt(dependency);
    if (stranger === undefined) return [folder];
    faults.push({ origin: dependency, message: notTrusted(dependency, stranger) });
    return [];
  });
}

function notTrusted(file: string, stranger: string): string {
  return `not used, since ${stranger}. If you trust ${file.endsWith("package.json") ? "what it declares" : "it"}, name the file of the backend in C10D_BACKENDS`;
}

function ancestors(folder: string): string[] {
  const found = [resolve(folder)];
  for (let next = dirname(resolve(folder)); next !== found.at(-1); next = dirname(next)) found.push(next);
  return found;
}

function readManifest(folder: string, faults: DiscoveryFault[]): Readonly<Record<string, unknown>> | undefined {
  const file = join(folder, "package.json");
  try {
    const manifest: unknown = JSON.parse(readFileSync(file, "utf8"));
    if (isObject(manifest)) return manifest;
    throw new TypeError("it is not an object");
  } catch (error) {
    const reason = messageOf(error);
    if (!faults.some(({ origin }) => origin === file)) faults.push({ origin: file, message: `unreadable: ${reason}` });
    return undefined;
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
