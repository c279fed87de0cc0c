export interface LineProcessOptions {
  readonly cmd: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Time-out of each reply in milliseconds. */
  readonly answerLimitMs?: number;
}

const ANSWER_LIMIT_MS = 30_000;

/** A process that answers each line on its standard input with a line of JSON; it prints its first line unprompted. */
export class LineProcess implements AsyncDisposable {
  readonly #process: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #lines: AsyncIterator<string>;
  readonly #name: string;
  readonly #limitMs: number;

  constructor({ cmd, env, answerLimitMs }: LineProcessOptions) {
    this.#name = cmd.join(" ");
    this.#limitMs = answerLimitMs ?? ANSWER_LIMIT_MS;
    this.#process = Bun.spawn({
      cmd: [...cmd],
      env: { ...process.env, NO_COLOR: "1", ...env },
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    });
    this.#lines = linesOf(this.#process.stdout);
  }

  /** Sends a line and resolves to the reply. */
  async ask(line: string): Promise<unknown> {
    this.#process.stdin.write(`${line}\n`);
    await this.#process.stdin.flush();
    return this.answer();
  }

  /** The next line. */
  async answer(): Promise<unknown> {
    const { promise: late, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => reject(new Error(`no answer in ${this.#limitMs} ms: ${this.#name}`)), this.#limitMs);
    try {
      const { value, done } = await Promise.race([this.#lines.next(), late]);
      if (done === true) throw new Error(`ended without an answer: ${this.#name}`);
      return JSON.parse(value);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Closes its input and waits until it exits; kills it if that takes too long. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.stdin.end();
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), 2_000);
    await this.#process.exited;
    clearTimeout(timer);
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
}
