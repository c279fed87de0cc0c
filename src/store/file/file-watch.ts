import { type FSWatcher, watch } from "node:fs";

/** The poll interval without notifications of the file system: upstream's. */
const pollMs = 10;
/** The poll interval with them, for lost ones and for a file that was created again. */
const safetyPollMs = 25;

/**
 * Calls `look` when the file may have changed. Network file systems do not notify of what other hosts write, so it also
 * polls.
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
      // No file yet, or no more watches are available: only poll.
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
