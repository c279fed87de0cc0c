import { type FSWatcher, watch } from "node:fs";

/** Without notifications of the file system, the interval is upstream's. */
const pollMs = 10;
/** With them, a look now and then is for the one that was lost, and for a file that was made anew. */
const safetyPollMs = 25;

/**
 * Calls `look` when the file may have changed. Network file systems do not tell of what other hosts write, so it also
 * looks by the clock.
 */
export class FileWatch {
  readonly #path: string;
  readonly #look: () => void;
  #watcher: FSWatcher | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(path: string, look: () => void) {
    this.#path = path;
    this.#look = look;
  }

  start(): void {
    if (this.#timer !== undefined) return;
    this.#arm();
    this.#tick();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#watcher?.close();
    this.#watcher = undefined;
  }

  /** To be called when the path leads to another file than before. */
  rearm(): void {
    if (this.#timer === undefined) return;
    this.#watcher?.close();
    this.#watcher = undefined;
    this.#arm();
  }

  #arm(): void {
    try {
      const watcher = watch(this.#path, { persistent: false }, () => this.#look());
      watcher.on("error", () => {
        if (this.#watcher === watcher) this.#watcher = undefined;
      });
      this.#watcher = watcher;
    } catch {
      // No file yet, or no more watches to be had: the clock has to do.
      this.#watcher = undefined;
    }
  }

  #tick(): void {
    this.#timer = setTimeout(
      () => {
        this.#tick();
        this.#look();
      },
      this.#watcher === undefined ? pollMs : safetyPollMs,
    );
  }
}
