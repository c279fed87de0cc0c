import { fixture } from "./torch.ts";

/** A Python program of the fixtures that answers requests, each a line of JSON, one after the other. */
export class JsonPeer implements AsyncDisposable {
  readonly #process: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #replies: AsyncGenerator<string, void>;

  constructor(python: string, program: string) {
    this.#process = Bun.spawn([python, fixture(program)], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    });
    this.#replies = lines(this.#process.stdout);
  }

  /** The reply to a request. */
  async ask(...request: readonly unknown[]): Promise<unknown> {
    this.#process.stdin.write(`${JSON.stringify(request)}\n`);
    await this.#process.stdin.flush();
    return this.reply();
  }

  /** The next line. */
  async reply(): Promise<unknown> {
    const { value } = await this.#replies.next();
    if (value === undefined) throw new Error("the Python process has ended");
    return JSON.parse(value);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.stdin.end();
    const code = await this.#process.exited;
    if (code !== 0) throw new Error(`the Python process has ended with ${code}`);
  }
}

async function* lines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, void> {
  const decoder = new TextDecoder();
  let parts: string[] = [];
  for await (const chunk of stream) {
    const [first = "", ...others] = decoder.decode(chunk, { stream: true }).split("\n");
    parts.push(first);
    for (const other of others) {
      yield parts.join("");
      parts = [other];
    }
  }
}
