const newline = 10;
const carriageReturn = 13;

/** A longer line is cut, so that output without line ends takes bounded memory. */
const maxLineBytes = 1 << 20;

/**
 * Splits a stream of bytes into lines. A carriage return inside a line starts it over, as on a terminal, so that only
 * the last state of a progress bar becomes a line; {@link progress} is the state in between. Bytes are never decoded:
 * a character may be split between chunks.
 */
export class LineSplitter {
  #pending: Buffer = Buffer.alloc(0);
  #overwritten = false;

  /** The complete lines that end in `chunk`, without their line ends. */
  push(chunk: Uint8Array): Uint8Array[] {
    const data = this.#pending.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#pending, chunk]);
    const lines: Uint8Array[] = [];
    let start = 0;
    for (let end = data.indexOf(newline); end >= 0; end = data.indexOf(newline, start)) {
      lines.push(lastState(data.subarray(start, end)));
      start = end + 1;
      this.#overwritten = false;
    }
    let rest: Buffer = data.subarray(start);
    if (rest.includes(carriageReturn)) {
      this.#overwritten = true;
      rest = lastState(rest, 1);
    }
    for (; rest.length > maxLineBytes; rest = rest.subarray(maxLineBytes)) lines.push(rest.subarray(0, maxLineBytes));
    this.#pending = Buffer.from(rest);
    return lines;
  }

  /** What the unfinished line currently shows, if it has been overwritten with carriage returns. */
  get progress(): Uint8Array | undefined {
    return this.#overwritten ? lastState(this.#pending) : undefined;
  }

  /** The unfinished line at the end of the stream. */
  end(): Uint8Array[] {
    const rest = lastState(this.#pending);
    this.#pending = Buffer.alloc(0);
    this.#overwritten = false;
    return rest.length === 0 ? [] : [rest];
  }
}

/** What remains of a line after its carriage returns; `keep` of those at its end stay. */
function lastState(line: Buffer, keep = 0): Buffer {
  let end = line.length;
  while (end > 0 && line[end - 1] === carriageReturn) end--;
  const start = end === 0 ? 0 : line.lastIndexOf(carriageReturn, end - 1) + 1;
  return line.subarray(start, Math.min(line.length, end + keep));
}
