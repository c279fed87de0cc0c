/** Entry point `bun-c10d/native`: backends over shims of your own (native/c10d.h). */

import { describe, InvalidArgumentError } from "../../errors/index.ts";
import { loadShim, type Shim } from "../../native/index.ts";
import { type BackendContext, type BackendPlugin, BackendType } from "../../registry/index.ts";
import { NativeBackend } from "./native-backend.ts";
import { probeShim } from "./probe-shim.ts";

export { loadShim, type NativeStats, type Shim, type ShimLocation } from "../../native/index.ts";
export { engineDTypes, movedDTypes } from "./engine-dtypes.ts";
export { NativeBackend } from "./native-backend.ts";

/** Folder with `c10d.h` and the sources of the engine, for `-I`. */
export const includeDirectory: string = Bun.fileURLToPath(new URL("../../../native", import.meta.url));

/** Argument of {@link nativePlugin}. Fields without a description here are those of `BackendPlugin`. */
export interface NativePluginInit<Options extends object = object>
  extends Pick<BackendPlugin<Options>, "name" | "module" | "capabilities" | "options" | "instancesDiffer"> {
  /** Version of the contract that it is written for: 2. */
  readonly sdk: number;
  /** The shared library, as a path or a `file:` URL such as `new URL("./libc10d_mine.so", import.meta.url)`. */
  readonly library: string | URL;
  /** What to do if the library is missing, for the error and `c10d info`. */
  readonly remedy: string;
  /** `["cpu"]` by default. */
  readonly devices?: BackendPlugin["devices"];
  /** What `c10d_create` receives as `key=value` in `c10d_config.options`. Nothing by default. */
  settings?(context: BackendContext<Options>): Readonly<Record<string, string>>;
}

/** Checks the fields that the registry does not check, for callers in JavaScript. */
function requireInit(init: NativePluginInit<never>): void {
  if (typeof init !== "object" || init === null) {
    const text = `nativePlugin: expected an object with name, sdk, library, remedy, capabilities, got ${describe(init)}`;
    throw new InvalidArgumentError(text, { argument: "init" });
  }
  const fault = (argument: keyof NativePluginInit, text: string): InvalidArgumentError => {
    const got = describe(init[argument]);
    return new InvalidArgumentError(`nativePlugin "${String(init.name)}": ${argument} must be ${text}, got ${got}`, {
      argument,
    });
  };
  const { library } = init;
  const isFile = library instanceof URL ? library.protocol === "file:" : typeof library === "string" && library !== "";
  if (!isFile) throw fault("library", "the path of the shared library, or a file: URL");
  if (typeof init.remedy !== "string") throw fault("remedy", "a string that says what to do if the library is missing");
  for (const method of ["settings", "options"] as const) {
    if (init[method] !== undefined && typeof init[method] !== "function") throw fault(method, "a method");
  }
}

/** Settings as they are passed to `c10d_create`. */
function requireSettings(backend: string, settings: unknown): Readonly<Record<string, string>> {
  const text = `backend "${backend}": settings() must return an object of strings without NUL`;
  if (typeof settings !== "object" || settings === null) {
    throw new InvalidArgumentError(`${text}, got ${describe(settings)}`, { backend, argument: "settings" });
  }
  for (const [key, value] of Object.entries(settings)) {
    const isText = typeof value === "string" && !value.includes("\0") && key !== "" && !/[=\0]/.test(key);
    if (!isText) {
      const pair = `${describe(value)} for ${describe(key)}`;
      throw new InvalidArgumentError(`${text}, got ${pair}`, { backend, argument: "settings" });
    }
  }
  return settings as Readonly<Record<string, string>>;
}

/**
 * A plugin whose backend is a shared library that exports the symbols of `native/c10d.h`. The library is loaded when
 * the backend is requested, and its ABI version is checked.
 *
 * `create()` rejects with `BackendUnavailableError` if the library is missing (with the remedy) or was built for
 * another ABI (`ABI_MISMATCH`).
 *
 * @throws InvalidArgumentError if a field of `init` that the registry does not check is invalid.
 */
export function nativePlugin<Options extends object = object>(init: NativePluginInit<Options>): BackendPlugin<Options> {
  requireInit(init as NativePluginInit<never>);
  const { name, sdk, module, capabilities, devices = ["cpu"] } = init;
  const path = typeof init.library === "string" ? init.library : Bun.fileURLToPath(init.library);
  const load = (remedy: string): Shim => loadShim({ name, path, remedy });
  const options = init.options?.bind(init);
  return {
    name,
    type: BackendType.CUSTOM,
    sdk,
    ...(module !== undefined && { module }),
    devices,
    bootstrap: "store",
    capabilities,
    ...(init.instancesDiffer !== undefined && { instancesDiffer: init.instancesDiffer }),
    ...(options && { options }),

    probe: () => probeShim(() => load(""), init.remedy),

    async create(context) {
      const settings = requireSettings(name, init.settings?.(context) ?? {});
      return NativeBackend.connect(load(init.remedy), context, settings, capabilities);
    },
  };
}
