import { FFIType } from "bun:ffi";
import { openCLibrary } from "../c-library.ts";

const symbols = { listen: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 } } as const;
/** The kernel takes as many as it allows: on Linux `net.core.somaxconn`, usually 4096. */
const asManyAsAllowed = 0x7fff_ffff;

/**
 * Lets more clients wait to be accepted than the 512 of Bun. When thousands come at once, the kernel drops the others'
 * packets, and they come again after 1, 3 and 7 s only. Where it cannot be done, that is how it stays.
 */
export function widenBacklog(listener: object): void {
  // Bun has the descriptor on its listeners; its types lack it.
  const { fd } = listener as { readonly fd?: unknown };
  if (typeof fd !== "number" || fd < 0) return;
  try {
    openCLibrary(symbols, "the store server", "LISTEN_FAILED").listen(fd, asManyAsAllowed);
  } catch {
    // No C library that we know.
  }
}
