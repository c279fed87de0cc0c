import { lstatSync, unlinkSync } from "node:fs";

const open = new Set<SocketFile>();
let isExitWatched = false;

/** A socket file that this process made, and removes when it is closed or the process exits. */
export class SocketFile {
  readonly #path: string;
  readonly #identity: string | undefined;

  constructor(path: string) {
    this.#path = path;
    this.#identity = identityOf(path);
    open.add(this);
    if (isExitWatched) return;
    isExitWatched = true;
    process.on("exit", () => {
      for (const each of open) each.remove();
    });
  }

  /** Removes the file, unless it is another one by now. */
  remove(): void {
    if (!open.delete(this) || this.#identity === undefined || identityOf(this.#path) !== this.#identity) return;
    try {
      unlinkSync(this.#path);
    } catch {
      // The folder is no longer this user's to write. The next server on the path replaces the file.
    }
  }
}

/** Numbers of files that have been removed are used again, so the time belongs to it. */
function identityOf(path: string): string | undefined {
  const found = lstatSync(path, { throwIfNoEntry: false });
  return found?.isSocket() === true ? `${found.dev} ${found.ino} ${found.birthtimeMs}` : undefined;
}
