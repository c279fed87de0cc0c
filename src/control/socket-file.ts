import { rmSync, unlinkSync } from "node:fs";
import { announceSocket, socketIdentity } from "../status/index.ts";

const open = new Set<SocketFile>();
let isExitWatched = false;

/**
 * A socket file that this process made, and removes when it is closed or the process exits. If a signal ends the process,
 * its launcher does.
 */
export class SocketFile {
  readonly #path: string;
  readonly #identity: string | undefined;
  readonly #announcement: string | undefined;

  constructor(path: string) {
    this.#path = path;
    this.#identity = socketIdentity(path);
    if (this.#identity !== undefined) this.#announcement = announceSocket(path, this.#identity);
    open.add(this);
    if (isExitWatched) return;
    isExitWatched = true;
    process.on("exit", () => {
      for (const each of open) each.remove();
    });
  }

  /** Removes the file, unless it is another one by now. */
  remove(): void {
    if (!open.delete(this) || this.#identity === undefined) return;
    try {
      if (socketIdentity(this.#path) === this.#identity) unlinkSync(this.#path);
      if (this.#announcement !== undefined) rmSync(this.#announcement, { force: true });
    } catch {
      // The folder is no longer this user's to write. The next server on the path replaces the file.
    }
  }
}
