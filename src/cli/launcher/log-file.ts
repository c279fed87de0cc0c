import { type FileHandle, mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import { InvalidArgumentError } from "../../errors/index.ts";
import type { OutputStream } from "./job-output.ts";

/** Folder of the logs of one attempt. */
export function attemptFolder(logDir: string, runId: string, attempt: number): string {
  return join(logDir, runId, `attempt_${attempt}`);
}

/** A file that takes what a rank writes to one of its streams, byte for byte. */
export class LogFile {
  readonly #path: string;
  readonly #onError: (message: string) => void;
  #file: FileHandle | undefined;

  private constructor(path: string, file: FileHandle, onError: (message: string) => void) {
    this.#path = path;
    this.#file = file;
    this.#onError = onError;
  }

  /**
   * Makes `<folder>/<rank>/<stream>.log`, in place of an older one. `onError` is told once when it can take no more;
   * the rank goes on then.
   * @throws InvalidArgumentError when it cannot be made.
   */
  static async create(
    folder: string,
    rank: number,
    stream: OutputStream,
    onError: (message: string) => void,
  ): Promise<LogFile> {
    const path = join(folder, String(rank), `${stream}.log`);
    try {
      await mkdir(join(folder, String(rank)), { recursive: true });
      return new LogFile(path, await open(path, "w"), onError);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new InvalidArgumentError(`--log-dir: cannot make the log file ${path}: ${why}`, {
        argument: "log-dir",
        cause,
      });
    }
  }

  async write(bytes: Uint8Array): Promise<void> {
    try {
      await this.#file?.writeFile(bytes);
    } catch (error) {
      this.#onError(`the log file ${this.#path} takes no more: ${error instanceof Error ? error.message : error}`);
      await this.close();
    }
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close().catch(() => {});
  }
}
