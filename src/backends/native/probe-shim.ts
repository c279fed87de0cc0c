import { messageOf } from "../../errors/index.ts";
import type { Shim } from "../../native/index.ts";
import type { Availability } from "../../registry/index.ts";

/**
 * The `probe()` of a plugin with a shim: tries to load it.
 *
 * @param load Loads the shim; its error needs no remedy.
 * @param remedy What to do if the shim cannot be loaded.
 * @param detail What else describes an available backend; empty if there is nothing.
 */
export async function probeShim(load: () => Shim, remedy: string, detail = ""): Promise<Availability> {
  try {
    const { version, path, abi } = load();
    return { available: true, version, library: { path, abi }, ...(detail !== "" && { detail }) };
  } catch (error) {
    return { available: false, reason: messageOf(error), remedy };
  }
}
