import { FFIType } from "bun:ffi";
import { openCLibrary } from "../../c-library.ts";

const symbols = { listen: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 } } as const;
/** The kernel limits it: on Linux to `net.core.somaxconn`, usually 4096. */
const asManyAsAllowed = 0x7fff_ffff;

/**
 * Raises the backlog of a listener from Bun's 512. When more clients connect at once, the kernel drops the packets of
 * the rest, which are sent again only after 1, 3 and 7 s. Does nothing if the C library cannot be loaded.
 */
export function widenBacklog(listener: object): void {
  // Bun has the descriptor on its listeners; its types lack it.
  const { fd } = listener as { readonly fd?: unknown };
  if (typeof fd !== "number" || fd < 0) return;
  try {
    openCLibrary(symbols, "the store server", "LISTEN_FAILED").listen(fd, asManyAsAllowed);
  } catch {
    // No known C library.
  }
}
