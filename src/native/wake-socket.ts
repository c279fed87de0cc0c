/** The host's end of a group's wake socket, on the event loop. */
export interface WakeSocket {
  ref(): void;
  unref(): void;
  end(): void;
}

/**
 * Calls `onWake` whenever bytes arrive on `fd`, an AF_UNIX stream socket that Bun takes over and closes.
 * Bun supports this, but its types lack `fd` in `Bun.connect`.
 */
export function watchSocket(fd: number, onWake: () => void): Promise<WakeSocket> {
  const options = { fd, socket: { data: onWake } };
  return Bun.connect(options as unknown as Bun.UnixSocketOptions<undefined>);
}
