import { pickleError } from "./pickle-error.ts";

/** Digits of an integer in decimal, which take time by the square of their number. Python has the same limit. */
const MAX_DIGITS = 4300;

const ESCAPE = /(\\\\)|\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})/g;
const MAX_CODE_POINT = 0x10ffff;

/** The integer, or for "00" and "01" the boolean, of a line of protocol 0. */
export function integerOfLine(line: string): bigint | boolean {
  if (line === "00" || line === "01") return line === "01";
  const digits = line.replace(/L$/, "");
  if (digits.length > MAX_DIGITS) throw pickleError(`it has an integer of ${digits.length} digits`);
  if (!/^-?\d+$/.test(digits)) throw pickleError(`${JSON.stringify(digits)} is no integer`);
  return BigInt(digits);
}

/** The float of a line of protocol 0. */
export function floatOfLine(line: string): number {
  const special = /^(-?)(?:(inf)|(nan))$/.exec(line);
  if (special !== null) {
    if (special[3] !== undefined) return Number.NaN;
    return special[1] === "-" ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  }
  if (!/^-?\d+(\.\d*)?(e[+-]?\d+)?$/.test(line)) throw pickleError(`${JSON.stringify(line.slice(0, 80))} is no float`);
  return Number(line);
}

/** The string of a line of protocol 0, in Python's raw-unicode-escape. */
export function stringOfLine(line: string): string {
  return line.replace(ESCAPE, (whole, backslashes?: string, short?: string, long?: string) => {
    if (backslashes !== undefined) return whole;
    const code = Number.parseInt(short ?? long ?? "", 16);
    if (code > MAX_CODE_POINT) throw pickleError(`it has the character ${whole}, which does not exist`);
    return String.fromCodePoint(code);
  });
}
