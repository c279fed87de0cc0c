import { dlopen } from "bun:ffi";
import { DistNetworkError } from "../../errors/index.ts";

/** The local port of an open socket, which Bun does not tell for one that it was given. */
export function boundPort(fd: number): number {
  const library = process.platform === "darwin" ? "libSystem.dylib" : "libc.so.6";
  const libc = dlopen(library, { getsockname: { args: ["i32", "ptr", "ptr"], returns: "i32" } });
  const address = new Uint8Array(new ArrayBuffer(128));
  const length = new Uint32Array(new ArrayBuffer(4));
  length[0] = address.length;
  if (libc.symbols.getsockname(fd, address, length) !== 0) {
    throw new DistNetworkError(`the store server cannot use file descriptor ${fd}: it is not an open socket`, {
      code: "BAD_LISTEN_FD",
    });
  }
  return new DataView(address.buffer).getUint16(2);
}
