/** Entry point `bun-c10d/native`: backends over shims of your own (native/c10d.h). */

import { fileURLToPath } from "node:url";
import { messageOf } from "../errors/index.ts";
import { loadShim, type Shim } from "../native/index.ts";
import { type Availability, type BackendContext, type BackendPlugin, BackendType } from "../registry/index.ts";
import { NativeBackend } from "./native-backend.ts";

export { loadShim, type NativeStats, type Shim, type ShimLocation } from "../native/index.ts";
export { engineDTypes, movedDTypes } from "./engine-dtypes.ts";
export { NativeBackend } from "./native-backend.ts";

/** Folder with `c10d.h` and the sources of the engine, for `-I`. */
export const includeDirectory: string = fileURLToPath(new URL("../../native", import.meta.url));

/** What {@link nativePlugin} makes a plugin of. The fields that are not explained here are those of `BackendPlugin`. */
export interface NativePluginInit<Options extends object = object>
  extends Pick<BackendPlugin<Options>, "name" | "module" | "capabilities" | "options" | "instancesDiffer"> {
  /** Version of the contract that it was written for: 2. */
  readonly sdk: number;
  /** The shared library, as a path or a `file:` URL such as `new URL("./libc10d_mine.so", import.meta.url)`. */
  readonly library: string | URL;
  /** What to do where the library is missing, for the error and `c10d info`. */
  readonly remedy: string;
  /** `["cpu"]` by default. */
  readonly devices?: BackendPlugin["devices"];
  /** What `c10d_create` gets as `key=value` in `c10d_config.options`. Nothing by default. */
  settings?(context: BackendContext<Options>): Readonly<Record<string, string>>;
}

/**
 * A plugin whose backend is a shared library that exports the symbols of `native/c10d.h`. The library is loaded when the
 * backend is asked for, and told by its ABI version whether it fits.
 *
 * `create()` rejects with `BackendUnavailableError` where the library is missing (with the remedy) or was built for
 * another ABI (`ABI_MISMATCH`).
 */
export function nativePlugin<Options extends object = object>(init: NativePluginInit<Options>): BackendPlugin<Options> {
  const { name, sdk, module, capabilities, devices = ["cpu"] } = init;
  const path = typeof init.library === "string" ? init.library : fileURLToPath(init.library);
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

    probe(): Promise<Availability> {
      try {
        const { version, path, abi } = load("");
        return Promise.resolve({ available: true, version, library: { path, abi } });
      } catch (error) {
        const reason = messageOf(error);
        return Promise.resolve({ available: false, reason, remedy: init.remedy });
      }
    },

    async create(context) {
      return NativeBackend.connect(load(init.remedy), context, init.settings?.(context) ?? {}, capabilities);
    },
  };
}
