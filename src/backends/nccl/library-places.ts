import { readdirSync } from "node:fs";
import { homedir } from "node:os";
import { type Environment, environmentText, processEnvironment } from "../../environment/index.ts";

/** Where `libnccl.so.2` may be. */
export interface LibraryPlace {
  /** A path, or a name that the dynamic loader looks up. */
  readonly path: string;
  /** What names it, for messages. */
  readonly by: string;
  /** `user`: named by the user, so that there is no other; `loader`: looked up by name; `found`: a file of a package. */
  readonly kind: "user" | "loader" | "found";
}

export const SONAME = "libnccl.so.2";
const IN_PACKAGE = `nvidia/nccl/lib/${SONAME}`;

/**
 * Where the library is looked for, in this order: the option, `C10D_NCCL_LIBRARY`, the dynamic loader, then Python's
 * package `nvidia-nccl` in the active environments, the user's own and the system's. No Python is started.
 */
export function libraryPlaces(option: string | undefined, environment = processEnvironment()): LibraryPlace[] {
  if (option !== undefined) return [{ path: option, by: "options.library", kind: "user" }];
  const named = environmentText("C10D_NCCL_LIBRARY", environment);
  if (named !== undefined) return [{ path: named, by: "C10D_NCCL_LIBRARY", kind: "user" }];
  const loader: LibraryPlace = { path: SONAME, by: "the dynamic loader", kind: "loader" };
  return [loader, ...packagePlaces(environment)];
}

/** The libraries of Python's packages, those of newer versions of Python first in each place. */
function packagePlaces(environment: Environment): LibraryPlace[] {
  const [venv, conda] = [environmentText("VIRTUAL_ENV", environment), environmentText("CONDA_PREFIX", environment)];
  const places: LibraryPlace[] = [];
  const add = (by: string, ...paths: string[]) => {
    for (const path of paths) places.push({ path, by, kind: "found" });
  };
  if (venv !== undefined) add("VIRTUAL_ENV", ...sitePackages(venv));
  if (conda !== undefined) add("CONDA_PREFIX", `${conda}/lib/${SONAME}`, ...sitePackages(conda));
  add("Python's user site", ...sitePackages(`${homedir()}/.local`));
  for (const prefix of ["/usr/local", "/usr"]) {
    add("Python's system site", ...sitePackages(prefix, "dist-packages"), ...sitePackages(prefix));
  }
  return places;
}

function sitePackages(prefix: string, site = "site-packages"): string[] {
  return pythons(`${prefix}/lib`).map((python) => `${prefix}/lib/${python}/${site}/${IN_PACKAGE}`);
}

/** Folders such as `python3.12`, the newest first; `python3` has Debian's packages. */
function pythons(folder: string): string[] {
  const names = namesIn(folder).filter((name) => /^python3(\.\d+)?$/.test(name));
  const minor = (name: string): number => Number(name.slice("python3.".length) || -1);
  return names.sort((a, b) => minor(b) - minor(a));
}

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
