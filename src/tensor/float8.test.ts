import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { float8E4M3FN, float8E5M2 } from "./float8.ts";
import { tensor } from "./tensor.ts";

/** By the definitions of the formats: sign, exponent, fraction; one has a NaN per sign, the other is half a float16. */
function decodeE4M3FN(bits: number): number {
  const sign = bits & 0x80 ? -1 : 1;
  const [exponent, fraction] = [(bits >> 3) & 15, bits & 7];
  if (exponent === 15 && fraction === 7) return Number.NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -9 : (8 + fraction) * 2 ** (exponent - 10));
}

function decodeE5M2(bits: number): number {
  return new Float16Array(Uint16Array.of(bits << 8).buffer)[0] ?? Number.NaN;
}

const patterns = Array.from({ length: 0x100 }, (_, bits) => bits);

describe.each([
  { dtype: "float8_e4m3fn", encoding: float8E4M3FN, decode: decodeE4M3FN, largest: 0x7e, next: 480, beyond: 0x7e },
  { dtype: "float8_e5m2", encoding: float8E5M2, decode: decodeE5M2, largest: 0x7b, next: 65536, beyond: 0x7c },
] as const)("$dtype", ({ dtype, encoding, decode, largest, next, beyond }) => {
  const value = (bits: number): number => (bits > largest ? next : decode(bits));

  /** Nearest of a float32 number; the even pattern of two equally near ones. */
  function nearest(number: number): number {
    const size = Math.abs(number);
    const below = patterns.findLastIndex((bits) => bits <= largest && value(bits) <= size);
    const [down, up] = [size - value(below), value(below + 1) - size];
    const bits = up < down || (up === down && below % 2 === 1) ? below + 1 : below;
    return (Object.is(number, -0) || number < 0 ? 0x80 : 0) | (bits > largest ? beyond : bits);
  }

  test("all patterns decode as the format says, and all but NaN survive a round trip", () => {
    for (const bits of patterns) {
      expect(encoding.decode(bits)).toBe(decode(bits));
      expect(encoding.encode(decode(bits))).toBe(Number.isNaN(decode(bits)) ? 0x7f : bits);
    }
  });

  test("ties go to the even neighbour, numbers just off a tie to the nearer one", () => {
    for (let bits = 0; bits <= largest; bits++) {
      const tie = (value(bits) + value(bits + 1)) / 2;
      for (const number of [tie, tie * (1 - 2 ** -20), tie * (1 + 2 ** -20)]) {
        expect(encoding.encode(number)).toBe(nearest(number));
        expect(encoding.encode(-number)).toBe(nearest(-number));
      }
    }
  });

  test("numbers that are too large, infinite, too small or NaN", () => {
    const numbers = [1e9, -1e300, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1e-9, -1e-300, Number.NaN];
    expect(numbers.map(encoding.encode)).toEqual([beyond, 0x80 | beyond, beyond, 0x80 | beyond, 0, 0x80, 0x7f]);
  });

  test("via float32: a double just above a tie is that tie", () => {
    expect(encoding.decode(encoding.encode(1.0625 + 1e-12))).toBe(1);
    expect(encoding.decode(encoding.encode(1.125 + 1e-12))).toBe(dtype === "float8_e5m2" ? 1 : 1.125);
  });

  test("any number rounds to the nearest, which rounds to itself", () => {
    fc.assert(
      fc.property(fc.float({ noNaN: true }), (number) => {
        const bits = encoding.encode(number);
        expect(bits).toBe(Number.isFinite(number) ? nearest(number) : (number < 0 ? 0x80 : 0) | beyond);
        expect(encoding.encode(encoding.decode(bits))).toBe(bits);
      }),
    );
  });

  test("a tensor keeps raw bits and reads back as numbers", () => {
    const made = tensor([1, -2, 448, 0.3], { dtype, shape: [2, 2] });
    expect(made.data).toBeInstanceOf(Uint8Array);
    expect(Array.from(made.data, Number)).toEqual([1, -2, 448, 0.3].map(encoding.encode));
    expect(made.toNumbers()).toEqual([1, -2, 448, 0.3125]);
    expect(tensor(Uint8Array.of(encoding.encode(6)), { dtype }).toNumbers()).toEqual([6]);
  });
});
