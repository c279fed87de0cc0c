import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { DistError, InvalidArgumentError, messageOf, shortageOf } from "../../errors/index.ts";
import { createFoldersIn, createOwnFile } from "../../files/index.ts";
import type { OutputStream } from "./job-output.ts";

/** Where the logs of one attempt go: subfolders of the folder that the user names. */
export interface LogFolder {
  readonly base: string;
  readonly below: readonly string[];
}

export function attemptFolder(logDir: string, runId: string, attempt: number): LogFolder {
  return { base: logDir, below: [runId, `attempt_${attempt}`] };
}

/** A file that receives what a rank writes to one of its streams, byte for byte. */
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
   * Creates `<folder>/<rank>/<stream>.log`, replacing an older one, for this user alone. `onError` is called once, when
   * a write fails; the rank then continues without the file.
   * @throws InvalidArgumentError when it cannot be created, or another user may have tampered with its path.
   */
  static async create(
    { base, below }: LogFolder,
    rank: number,
    stream: OutputStream,
    onError: (message: string) => void,
  ): Promise<LogFile> {
    const path = join(base, ...below, String(rank), `${stream}.log`);
    try {
      createFoldersIn(base, ...below, String(rank));
      return new LogFile(path, await createOwnFile(path), onError);
    } catch (cause) {
      const shortage = shortageOf(cause);
      if (shortage) {
        throw new DistError(`cannot create the log file ${path}: ${shortage.text}`, { code: shortage.code, cause });
      }
      throw new InvalidArgumentError(`--log-dir: cannot create the log file ${path}: ${messageOf(cause)}`, {
        argument: "log-dir",
        cause,
      });
    }
  }

  async write(bytes: Uint8Array): Promise<void> {
    try {
      await this.#file?.writeFile(bytes);
    } catch (error) {
      this.#onError(`cannot write to the log file ${this.#path} any more: ${messageOf(error)}`);
      await this.close();
    }
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close().catch(() => {});
  }
}
