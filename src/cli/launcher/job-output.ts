import { environmentText } from "../../environment/index.ts";

export type OutputStream = "stdout" | "stderr";

/** Where the launcher's own output goes. `write` resolves when the bytes are handed over, which paces the ranks. */
export interface OutputSink {
  readonly isTTY: boolean;
  readonly columns: number;
  write(bytes: Uint8Array): Promise<void>;
}

const newline = Buffer.from("\n");
const clearLine = Buffer.from("\r\x1b[K");
const prefixColours = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

/**
 * Output of all ranks to one terminal or file: whole lines, each with the prefix of its rank. On a terminal the latest
 * progress bar stays below the lines.
 */
export class JobOutput {
  readonly #sinks: Readonly<Record<OutputStream, OutputSink>>;
  readonly #prefixed: boolean;
  #bar: { readonly rank: number; readonly stream: OutputStream; readonly text: Buffer } | undefined;

  constructor(sinks: Readonly<Record<OutputStream, OutputSink>>, options: { readonly prefix: boolean }) {
    this.#sinks = sinks;
    this.#prefixed = options.prefix;
  }

  /** Writes complete lines of a rank in one piece. */
  lines(rank: number, stream: OutputStream, lines: readonly Uint8Array[]): Promise<void> {
    if (lines.length === 0) return Promise.resolve();
    const prefix = this.#prefix(rank, stream);
    const bytes = lines.flatMap((line) => [prefix, line, newline]);
    if (this.#bar?.rank === rank && this.#bar.stream === stream)
      return this.#write(stream, this.#eraseBar(stream), bytes);
    return this.#aboveBar(stream, bytes);
  }

  /** Shows the progress bar of a rank, if `stream` is a terminal. */
  progress(rank: number, stream: OutputStream, text: Uint8Array): Promise<void> {
    const sink = this.#sinks[stream];
    if (!sink.isTTY || text.length === 0) return Promise.resolve();
    const prefix = this.#prefix(rank, stream);
    const room = sink.columns - Bun.stringWidth(prefix.toString()) - 1;
    // A bar that wraps could not be erased.
    const shown = Buffer.from(Bun.sliceAnsi(Buffer.from(text).toString(), 0, Math.max(room, 1)));
    const erase = this.#eraseBar(stream);
    this.#bar = { rank, stream, text: Buffer.concat([prefix, shown]) };
    return this.#write(stream, erase, [this.#bar.text]);
  }

  /** Writes the launcher's own text, replacing any progress bar. */
  note(text: string): Promise<void> {
    return this.#write("stderr", this.#eraseBar("stderr"), [Buffer.from(text)]);
  }

  #aboveBar(stream: OutputStream, bytes: readonly Uint8Array[]): Promise<void> {
    const bar = this.#bar;
    if (bar === undefined || !this.#sinks[stream].isTTY) return this.#write(stream, [], bytes);
    return this.#write(stream, [clearLine], [...bytes, bar.text]);
  }

  #eraseBar(stream: OutputStream): Uint8Array[] {
    const shown = this.#bar !== undefined;
    this.#bar = undefined;
    return shown && this.#sinks[stream].isTTY ? [clearLine] : [];
  }

  #write(stream: OutputStream, before: readonly Uint8Array[], bytes: readonly Uint8Array[]): Promise<void> {
    return this.#sinks[stream].write(Buffer.concat([...before, ...bytes]));
  }

  #prefix(rank: number, stream: OutputStream): Buffer {
    if (!this.#prefixed) return Buffer.alloc(0);
    const text = `[rank ${rank}] `;
    const colour = prefixColours[rank % prefixColours.length];
    // Only the foreground is reset, so that a style that a rank sets for several lines stays.
    return Buffer.from(
      this.#sinks[stream].isTTY && !environmentText("NO_COLOR") ? `\x1b[${colour}m${text}\x1b[39m` : text,
    );
  }
}

/** One of the launcher's own streams. `onClosed` runs once when its reader has exited; later output is dropped. */
export class StdioSink implements OutputSink {
  readonly #stream: NodeJS.WriteStream;
  #closed = false;

  constructor(stream: NodeJS.WriteStream, onClosed: () => void) {
    this.#stream = stream;
    stream.on("error", () => {
      if (!this.#closed) onClosed();
      this.#closed = true;
    });
  }

  get isTTY(): boolean {
    return this.#stream.isTTY === true;
  }

  get columns(): number {
    return this.#stream.columns || 80;
  }

  write(bytes: Uint8Array): Promise<void> {
    if (this.#closed || bytes.length === 0) return Promise.resolve();
    return new Promise((resolve) => this.#stream.write(bytes, () => resolve()));
  }
}
