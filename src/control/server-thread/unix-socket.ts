import { chmodSync, linkSync, lstatSync, mkdtempSync, rmdirSync, rmSync, unlinkSync } from "node:fs";
import { dirname, join } from "node:path";

/** A socket file that this process made. */
export class UnixSocket {
  readonly #path: string;
  readonly #inode: number;

  /**
   * Binds a socket in a folder that only this user can enter, and gives it its name when its mode is 0600: so nobody
   * else can open it, not for a moment, and what exists at the path is neither replaced nor followed.
   *
   * @param bind Binds to a path.
   * @throws Error `EEXIST` when something exists at the path, and what `bind` throws.
   */
  static bind<T>(path: string, bind: (path: string) => T): { readonly server: T; readonly socket: UnixSocket } {
    const folder = mkdtempSync(join(dirname(path), ".c10d"));
    const hidden = join(folder, "s");
    try {
      const server = bind(hidden);
      chmodSync(hidden, 0o600);
      linkSync(hidden, path);
      const socket = new UnixSocket(path);
      unlinkSync(hidden);
      return { server, socket };
    } finally {
      rmSync(hidden, { force: true });
      rmdirSync(folder);
    }
  }

  private constructor(path: string) {
    this.#path = path;
    this.#inode = lstatSync(path).ino;
  }

  /** Removes the file, unless it is another one by now. */
  remove(): void {
    if (lstatSync(this.#path, { throwIfNoEntry: false })?.ino === this.#inode) unlinkSync(this.#path);
  }
}
