import { FFIType } from "bun:ffi";
import { DistNetworkError } from "../../../errors/index.ts";
import { openCLibrary } from "../../c-library.ts";

const symbols = { getsockname: { args: [FFIType.i32, FFIType.ptr, FFIType.ptr], returns: FFIType.i32 } } as const;

/** The local port of an open socket. Bun does not report it for a socket that it was given. */
export function boundPort(fd: number): number {
  const { getsockname } = openCLibrary(symbols, "the store server", "BAD_LISTEN_FD");
  const address = new Uint8Array(new ArrayBuffer(128));
  const length = new Uint32Array(new ArrayBuffer(4));
  length[0] = address.length;
  if (getsockname(fd, address, length) !== 0) {
    throw new DistNetworkError(`the store server cannot use file descriptor ${fd}: it is not an open socket`, {
      code: "BAD_LISTEN_FD",
    });
  }
  return new DataView(address.buffer).getUint16(2);
}
