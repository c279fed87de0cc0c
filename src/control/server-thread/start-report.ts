/** How a server has started. */
export type Started =
  | { readonly port: number; readonly failure?: undefined }
  | { readonly port?: undefined; readonly failure: { readonly code: string; readonly message: string } };

enum State {
  Starting,
  Started,
  Failed,
  Stopped,
}

/** Places in the memory: state, port, length of a failure, which follows as JSON. */
const TEXT_AT = 12;
const TEXT_LIMIT = 4_096;

/** Memory by which a Worker reports its start and its end to a thread that blocks until then. */
export class StartReport {
  readonly memory: SharedArrayBuffer;
  readonly #words: Int32Array;

  constructor(memory: SharedArrayBuffer = new SharedArrayBuffer(TEXT_AT + TEXT_LIMIT)) {
    this.memory = memory;
    this.#words = new Int32Array(memory, 0, 3);
  }

  /** Blocks until the server listens or has failed; `undefined` after `limitMs`. */
  await(limitMs: number): Started | undefined {
    Atomics.wait(this.#words, 0, State.Starting, limitMs);
    const state = Atomics.load(this.#words, 0);
    if (state === State.Starting) return undefined;
    if (state === State.Failed) {
      const bytes = new Uint8Array(this.memory, TEXT_AT, this.#words[2]).slice();
      return { failure: JSON.parse(new TextDecoder().decode(bytes)) as { code: string; message: string } };
    }
    return { port: this.#words[1] ?? 0 };
  }

  started(port: number): void {
    this.#words[1] = port;
    this.#notify(State.Started);
  }

  failed(code: string, message: string): void {
    const text = JSON.stringify({ code, message: message.slice(0, 500) });
    const bytes = new Uint8Array(this.memory, TEXT_AT);
    this.#words[2] = new TextEncoder().encodeInto(text, bytes).written;
    this.#notify(State.Failed);
  }

  /** Blocks until {@link stopped}, for at most `limitMs`. */
  awaitStop(limitMs: number): void {
    Atomics.wait(this.#words, 0, State.Started, limitMs);
  }

  stopped(): void {
    this.#notify(State.Stopped);
  }

  #notify(state: State): void {
    Atomics.store(this.#words, 0, state);
    Atomics.notify(this.#words, 0);
  }
}
