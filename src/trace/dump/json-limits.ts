import { dumpError } from "./fields.ts";

/** As for a pickle. */
const MAX_DEPTH = 64;
const MAX_VALUES = 10_000_000;

const QUOTE = 0x22;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;
const OPEN_LIST = 0x5b;
const CLOSE_LIST = 0x5d;
const OPEN_DICT = 0x7b;
const CLOSE_DICT = 0x7d;

/**
 * Refuses JSON that nests more deeply or has more values than a dump does, before it is parsed: the parser would need
 * some 30 bytes of memory for each byte of it.
 * @throws DistError with code INVALID_DUMP.
 */
export function requireJsonWithin(bytes: Uint8Array): void {
  let [depth, values] = [0, 1];
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i];
    if (byte === QUOTE) i = endOfString(bytes, i + 1);
    else if (byte === COMMA) values++;
    else if (byte === CLOSE_LIST || byte === CLOSE_DICT) depth--;
    else if (byte === OPEN_LIST || byte === OPEN_DICT) {
      values++;
      if (++depth > MAX_DEPTH) throw dumpError(`its data has more than ${MAX_DEPTH} levels`);
    }
    if (values > MAX_VALUES) throw dumpError(`it has more than ${MAX_VALUES} values`);
  }
}

/** Place of the quote that ends a string, or the end of the text. */
function endOfString(bytes: Uint8Array, start: number): number {
  for (let at = bytes.indexOf(QUOTE, start); at >= 0; at = bytes.indexOf(QUOTE, at + 1)) {
    let first = at;
    while (first > start && bytes[first - 1] === BACKSLASH) first--;
    if ((at - first) % 2 === 0) return at;
  }
  return bytes.length;
}
