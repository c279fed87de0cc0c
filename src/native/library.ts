import { dlopen } from "bun:ffi";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { environmentText } from "../environment/index.ts";
import { BackendUnavailableError, messageOf, shortageOf, shortageOfErrno, withShortage } from "../errors/index.ts";
import { untrustedOwnerAt, writableByAnyoneAt } from "../files/index.ts";
import { ABI_VERSION } from "./abi.generated.ts";
import { readFailure } from "./native-failure.ts";
import { packageFolder } from "./package-folder.ts";
import { declarations, type ShimSymbols } from "./shim-symbols.ts";
import { type CopyBytes, copyBytesOf } from "./staging-area.ts";
import { guardWorker } from "./worker-guard.ts";

/** A loaded shim. */
export interface Shim {
  readonly name: string;
  readonly path: string;
  /** Version of the native library it wraps. */
  readonly version: string;
  /** Version of the shim ABI that it implements. */
  readonly abi: number;
  readonly symbols: ShimSymbols;
  readonly copyBytes: CopyBytes;
  /** Why groups of this thread, a Worker, have to be closed before it ends; undefined if they need not be. */
  readonly workerHazard?: string;
}

/** Which shim to load, and where it is if not in the usual places. */
export interface ShimLocation {
  /** Name of the backend: the shim is `libc10d_<name>.so`. */
  readonly name: string;
  /** Exact file, for shims outside the package. */
  readonly path?: string;
  /** How to make the shim available, for the error; empty if the caller says so itself. */
  readonly remedy?: string;
}

const WORKER_HAZARD =
  "its shim does not include native/worker_end.h, so nothing stops its native threads when this Worker is terminated while " +
  "ops are in flight: they would keep using memory that was freed. Close the group first, or rebuild the shim";

const loaded = new Map<string, Shim>();

/**
 * Loads a shim and its native library: from `path`, else from the folder in `C10D_NATIVE_DIR`, else from the platform's
 * package, else from the build tree of this package.
 *
 * @throws BackendUnavailableError saying where it looked and what to do, or why the shim cannot use its library;
 *   `UNTRUSTED_LIBRARY` for a file that another user may have put there.
 */
export function loadShim(location: ShimLocation): Shim {
  const { name, remedy = "Run bun c10d build, or in a clone ./bootstrap build." } = location;
  const tried: string[] = [];
  for (const { path, named, absence } of candidates(location)) {
    if (path === undefined) {
      tried.push(absence);
      continue;
    }
    const known = loaded.get(path);
    if (known) return known;
    if (!existsSync(path)) {
      tried.push(`${path} (absent)`);
      continue;
    }
    checkTrust(name, path, named);
    const shim = open(name, path, remedy);
    loaded.set(path, shim);
    return shim;
  }
  const lines = [`backend "${name}": no shim found. Looked at:`, ...tried.map((each) => `  ${each}`)];
  throw new BackendUnavailableError([...lines, ...(remedy ? [remedy] : [])].join("\n"), { backend: name });
}

type Candidate =
  /** `named`: specified by the user, whose choice is trusted. */
  | { readonly path: string; readonly named: boolean; readonly absence?: never }
  | { readonly path: undefined; readonly named?: never; readonly absence: string };

function candidates({ name, path }: ShimLocation): Candidate[] {
  if (path !== undefined) return [{ path, named: true }];
  const file = `libc10d_${name}.so`;
  const found: Candidate[] = [];
  const folder = environmentText("C10D_NATIVE_DIR");
  if (folder) found.push({ path: `${folder}/${file}`, named: true });
  const platformPackage = `@bun-c10d/native-${process.platform}-${process.arch}/${file}`;
  try {
    found.push({ path: createRequire(import.meta.url).resolve(platformPackage), named: false });
  } catch {
    // The package is optional; without it, the build tree is next.
  }
  const own = packageFolder();
  found.push(
    own === undefined
      ? { path: undefined, absence: "the build tree of this package (this code is a bundle: set C10D_NATIVE_DIR)" }
      : { path: `${own}/build/release/lib/${file}`, named: false },
  );
  return found;
}

function checkTrust(name: string, path: string, named: boolean): void {
  const reason = named ? writableByAnyoneAt(path) : untrustedOwnerAt(path);
  if (reason === undefined) return;
  const remedy = named
    ? "remove that permission (chmod o-w)"
    : "check who owns it; if you trust it, set C10D_NATIVE_DIR to its folder";
  throw new BackendUnavailableError(`backend "${name}": ${path} is not loaded, since ${reason}: ${remedy}`, {
    code: "UNTRUSTED_LIBRARY",
    backend: name,
  });
}

function open(name: string, path: string, remedy: string): Shim {
  let symbols: ShimSymbols;
  let closeAddress: number;
  try {
    const library = dlopen(path, declarations).symbols;
    closeAddress = (library.c10d_close as unknown as { readonly ptr: number }).ptr;
    symbols = library as unknown as ShimSymbols;
  } catch (cause) {
    // A shim of another version may lack symbols; then its version is the more useful reason.
    const version = abiVersionOf(path);
    if (version !== undefined && version !== ABI_VERSION) throw wrongVersion(name, path, version);
    const shortage = shortageOf(cause);
    const reason = shortage?.text ?? messageOf(cause);
    throw new BackendUnavailableError(`backend "${name}": cannot load ${path}: ${reason}`, {
      ...(shortage && { code: shortage.code }),
      backend: name,
      cause,
    });
  }
  const version = symbols.c10d_abi_version();
  if (version !== ABI_VERSION) throw wrongVersion(name, path, version);
  const shim = { name, path, version: probe(name, symbols, remedy), abi: version, copyBytes: copyBytesOf(path) };
  const guarded = guardWorker(path, symbols, closeAddress);
  return guarded ? { ...shim, symbols: guarded } : { ...shim, symbols, workerHazard: WORKER_HAZARD };
}

/** Name and version of the native library. */
function probe(name: string, symbols: ShimSymbols, remedy: string): string {
  const text = new Uint8Array(new ArrayBuffer(256));
  const bytes = symbols.c10d_probe(text, text.length);
  if (bytes >= 0) return new TextDecoder().decode(text.subarray(0, bytes));
  const failure = readFailure((record) => symbols.c10d_last_failure(record), 0);
  const shortage = failure && shortageOfErrno(failure.systemError);
  const message = `backend "${name}": ${failure?.text ?? "its library cannot be used"}`;
  throw new BackendUnavailableError(
    [shortage ? withShortage(message, shortage) : message, ...(remedy ? [remedy] : [])].join("\n"),
    { ...(shortage && { code: shortage.code }), backend: name },
  );
}

function abiVersionOf(path: string): number | undefined {
  try {
    const { symbols, close } = dlopen(path, { c10d_abi_version: { args: [], returns: "u32" } });
    const version = symbols.c10d_abi_version();
    close();
    return version;
  } catch {
    return undefined;
  }
}

function wrongVersion(name: string, path: string, version: number): BackendUnavailableError {
  const rebuild =
    "rebuild it with this package's native/c10d.h (its own shims: bun c10d build, or in a clone ./bootstrap build)";
  const remedy = version > ABI_VERSION ? `update bun-c10d, or ${rebuild}` : rebuild;
  return new BackendUnavailableError(
    `backend "${name}": ${path} has shim ABI ${version}, this bun-c10d has ABI ${ABI_VERSION}: ${remedy}`,
    { code: "ABI_MISMATCH", backend: name },
  );
}
