/** Keys, as a terminal in raw mode sends them. */
const keys = new Map<string, "quit" | number>([
  ["q", "quit"],
  ["Q", "quit"],
  ["\x03", "quit"],
  ["\x1b[A", -1],
  ["k", -1],
  ["\x1b[B", 1],
  ["j", 1],
  ["\x1b[5~", -Number.MAX_SAFE_INTEGER],
  ["\x1b[6~", Number.MAX_SAFE_INTEGER],
]);

const ENTER = "\x1b[?1049h\x1b[?25l";
const LEAVE = "\x1b[?25h\x1b[?1049l";

/** Lines of the body that there is room for in the smallest terminal: the end of the head is left out there. */
const LEAST_BODY = 3;

/** What to show in so many columns: the head stays where the body is scrolled. */
export type TopContent = (columns: number) => { readonly head: readonly string[]; readonly body: readonly string[] };

/** The whole terminal, which is as it was before when this is disposed of or the process ends. */
export class TopScreen implements Disposable {
  /** Settles when the user wants to quit. */
  readonly quit: Promise<void>;
  readonly #quit = Promise.withResolvers<void>();
  #content: TopContent = () => ({ head: [], body: [] });
  #scrolled = 0;
  /** Number of lines of the body that there was room for. */
  #room = 0;
  readonly #leave = (): void => void process.stdout.write(LEAVE);
  readonly #draw = (): void => this.#render();
  readonly #end = (): void => this.#quit.resolve();
  readonly #onInput = (bytes: Uint8Array): void => {
    const key = keys.get(new TextDecoder().decode(bytes));
    if (key === "quit") this.#quit.resolve();
    else if (key !== undefined) this.#scroll(key);
  };

  constructor() {
    this.quit = this.#quit.promise;
    process.stdout.write(ENTER);
    process.on("exit", this.#leave);
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, this.#end);
    process.stdout.on("resize", this.#draw);
    if (!process.stdin.isTTY) return;
    process.stdin.setRawMode(true);
    process.stdin.on("data", this.#onInput);
    process.stdin.resume();
  }

  show(content: TopContent): void {
    this.#content = content;
    this.#render();
  }

  #scroll(lines: number): void {
    const page = Math.max(1, this.#room);
    this.#scrolled += Math.max(-page, Math.min(page, lines));
    this.#render();
  }

  #render(): void {
    const columns = process.stdout.columns || 80;
    const rows = process.stdout.rows || 24;
    const { head: wanted, body } = this.#content(columns);
    const head = wanted.slice(0, Math.max(1, rows - 1 - Math.min(LEAST_BODY, body.length)));
    this.#room = Math.max(0, rows - head.length - 1);
    const last = Math.max(0, body.length - this.#room);
    this.#scrolled = Math.max(0, Math.min(last, this.#scrolled));
    const shown = body.slice(this.#scrolled, this.#scrolled + this.#room);
    const hidden = body.length - shown.length;
    const lines = [...head, ...shown, hidden > 0 ? `${hidden} more; q quits` : "q quits"];
    // A line that wraps would push the others down. Lines are erased one by one, which does not flicker.
    const text = lines.slice(0, rows).map((line) => `${Bun.sliceAnsi(line, 0, columns)}\x1b[0m\x1b[K`);
    process.stdout.write(`\x1b[H${text.join("\r\n")}\x1b[J`);
  }

  [Symbol.dispose](): void {
    process.off("exit", this.#leave);
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.off(signal, this.#end);
    process.stdout.off("resize", this.#draw);
    if (process.stdin.isTTY) {
      process.stdin.off("data", this.#onInput);
      process.stdin.setRawMode(false);
      process.stdin.pause();
    }
    this.#leave();
  }
}
