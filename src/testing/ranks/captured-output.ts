/** The output of a process to a pipe. */
export class CapturedOutput {
  readonly #chunks: Uint8Array[] = [];
  readonly #reader;
  readonly #ended: Promise<void>;

  constructor(pipe: ReadableStream<Uint8Array>) {
    this.#reader = pipe.getReader();
    this.#ended = this.#read();
  }

  /**
   * The whole output, once the process has ended. Others may hold the pipe too, such as children that it left behind:
   * waits for them no longer than `graceMs`.
   */
  async text(graceMs: number): Promise<string> {
    await endOrGrace(this.#ended, graceMs);
    await this.#reader.cancel().catch(() => {});
    return Buffer.concat(this.#chunks).toString();
  }

  async #read(): Promise<void> {
    for (;;) {
      const { done, value } = await this.#reader.read();
      if (done) return;
      this.#chunks.push(value);
    }
  }
}

/** Resolves when `end` does, or when the time is up. */
export async function endOrGrace(end: Promise<unknown>, graceMs: number): Promise<void> {
  const { promise: grace, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, graceMs);
  await Promise.race([end, grace]);
  clearTimeout(timer);
}
