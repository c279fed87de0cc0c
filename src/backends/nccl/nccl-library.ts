import { dlopen } from "bun:ffi";
import { existsSync, realpathSync } from "node:fs";
import { BackendUnavailableError, messageOf, shortageOf } from "../../errors/index.ts";
import { untrustedOwnerAt, writableByAnyoneAt } from "../../files/index.ts";
import { type LibraryPlace, libraryPlaces, SONAME } from "./library-places.ts";
import { loadedFile } from "./loaded-file.ts";
import { type NcclVersion, OLDEST, versionText } from "./nccl-version.ts";

/** The NCCL of this process. */
export interface NcclLibrary {
  readonly path: string;
  readonly version: NcclVersion;
  /** Name of an emulator, which a test has put in its place. */
  readonly emulator?: string;
}

export const NCCL_REMEDY =
  "Install NCCL (pip install nvidia-nccl-cu13, or -cu12 for CUDA 12; on Debian apt-get install libnccl2, in contrib), or " +
  "set C10D_NCCL_LIBRARY to the path of libnccl.so.2.";

/** Errors of a path that the user has named, where there is nothing. */
const named = new WeakSet<object>();

/** What to do about an error of {@link loadNccl}. */
export function remedyFor(error: unknown): string {
  const isNamed = typeof error === "object" && error !== null && named.has(error);
  return isNamed ? "Correct the path, or leave it out: then NCCL is looked for." : NCCL_REMEDY;
}

const NCCL_SUCCESS = 0;
const RTLD_NOW = 2;
const RTLD_NOLOAD = 4;
let only: NcclLibrary | undefined;

/**
 * Loads `libnccl.so.2`, so that the shim finds it by its name. A process uses one.
 *
 * @param option The user's option `library`.
 * @throws BackendUnavailableError saying where it looked, or why what it found cannot be used.
 */
export function loadNccl(option?: string): NcclLibrary {
  const places = libraryPlaces(option);
  // Another thread may have loaded it.
  const known = only?.path ?? loadedFile(SONAME);
  if (known !== undefined) {
    const [wanted] = places;
    if (wanted?.kind === "user" && !isSameFile(wanted.path, known)) {
      throw unavailable(`this process uses ${known} already: it cannot use ${wanted.path} (${wanted.by}) as well`);
    }
    only ??= opened(known);
    return only;
  }
  const tried: string[] = [];
  for (const place of places) {
    const found = attempt(place, tried);
    if (found === undefined) continue;
    only = found;
    return found;
  }
  throw unavailable(
    ["libnccl.so.2 was not found. Looked at:", ...tried.map((each) => `  ${each}`)].join("\n"),
    "NCCL_NOT_FOUND",
  );
}

/** What is at a place; undefined if there is nothing. */
function attempt({ path, by, kind }: LibraryPlace, tried: string[]): NcclLibrary | undefined {
  if (kind === "loader") {
    const absence = absenceByLoader(path);
    if (absence === undefined) return opened(loadedFile(SONAME) ?? path);
    tried.push(`${path}, by ${by} (${absence})`);
    return undefined;
  }
  if (!existsSync(path)) {
    const text = `${path}, by ${by} (absent)`;
    if (kind === "user") {
      const error = unavailable(`there is no ${path}, which ${by} names`, "NCCL_NOT_FOUND");
      named.add(error);
      throw error;
    }
    tried.push(text);
    return undefined;
  }
  const reason = kind === "user" ? writableByAnyoneAt(path) : untrustedOwnerAt(path);
  if (reason !== undefined) {
    const remedy =
      kind === "user"
        ? "remove that permission (chmod o-w)"
        : "check who owns it; if you trust it, set C10D_NCCL_LIBRARY to its path";
    throw unavailable(`${path} is not loaded, since ${reason}: ${remedy}`, "UNTRUSTED_LIBRARY");
  }
  return opened(path);
}

/**
 * Has the dynamic loader load a library; returns why it cannot. Not by `dlopen` of `bun:ffi`, which would also look in
 * the current folder.
 */
function absenceByLoader(name: string): string | undefined {
  try {
    const loader = openLoader();
    return loader.dlopen(textOf(name), RTLD_NOW) === null ? String(loader.dlerror()) : undefined;
  } catch (error) {
    return messageOf(error);
  }
}

/** Whether a loaded file is what the shim gets, which asks the dynamic loader for `libnccl.so.2`. */
function isFoundByName(file: string): boolean {
  const loader = openLoader();
  const byName = loader.dlopen(textOf(SONAME), RTLD_NOW | RTLD_NOLOAD);
  return byName !== null && byName === loader.dlopen(textOf(file), RTLD_NOW | RTLD_NOLOAD);
}

const textOf = (text: string): Buffer => Buffer.from(`${text}\0`);

function openLoader() {
  return dlopen("libc.so.6", {
    dlopen: { args: ["ptr", "i32"], returns: "ptr" },
    dlerror: { args: [], returns: "cstring" },
  }).symbols;
}

const declarations = { ncclGetVersion: { args: ["ptr"], returns: "i32" } } as const;

/** Loads a library and asks for its version. */
function opened(file: string): NcclLibrary {
  let version: NcclVersion;
  try {
    const { symbols } = dlopen(file, declarations);
    const number = new Int32Array(new ArrayBuffer(4));
    const result = symbols.ncclGetVersion(number);
    if (result !== NCCL_SUCCESS) throw new Error(`ncclGetVersion failed (ncclResult_t ${result})`);
    version = number[0] ?? 0;
  } catch (cause) {
    const shortage = shortageOf(cause);
    throw unavailable(`cannot load ${file}: ${shortage?.text ?? messageOf(cause)}`, shortage?.code, cause);
  }
  if (!isFoundByName(file)) {
    const other = loadedFile(SONAME);
    throw unavailable(
      `${file} does not call itself ${SONAME} (its SONAME is another), so the shim would use ` +
        `${other ?? `the ${SONAME} that the dynamic loader finds`} instead: name a library with that SONAME`,
      "NCCL_UNUSABLE",
    );
  }
  const path = loadedFile(SONAME) ?? file;
  if (version < OLDEST) {
    throw unavailable(
      `${path} is NCCL ${versionText(version)}, which is too old: this backend needs ${versionText(OLDEST)} or later`,
      "NCCL_UNUSABLE",
    );
  }
  const emulator = emulatorIn(file);
  return { path, version, ...(emulator !== undefined && { emulator }) };
}

/** What a library that stands in for NCCL calls itself. */
function emulatorIn(file: string): string | undefined {
  try {
    const { symbols } = dlopen(file, { ncclemu_name: { args: [], returns: "cstring" } });
    return String(symbols.ncclemu_name());
  } catch {
    return undefined;
  }
}

function isSameFile(a: string, b: string): boolean {
  try {
    return realpathSync(a) === realpathSync(b);
  } catch {
    return a === b;
  }
}

function unavailable(reason: string, code?: string, cause?: unknown): BackendUnavailableError {
  return new BackendUnavailableError(`backend "nccl": ${reason}`, {
    backend: "nccl",
    ...(code !== undefined && { code }),
    ...(cause !== undefined && { cause }),
  });
}
