import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { bfloat16FromNumber, numberFromBfloat16 } from "./bfloat16.ts";

/** The number of 16 bits, by the definition of the format: sign, 8 bits of exponent, 7 of fraction. */
function decode(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 7) & 0xff;
  const fraction = bits & 0x7f;
  if (exponent === 0xff) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -133;
  return sign * (128 + fraction) * 2 ** (exponent - 134);
}

/** All non-negative finite numbers of the format, ascending; the index is the bit pattern. */
const finite = Array.from({ length: 0x7f80 }, (_, bits) => decode(bits));
const largest = decode(0x7f7f);
/** The next number, if the exponent had no limit. */
const beyond = 2 ** 128;

/** Nearest bfloat16 of a float32 number, by search; the even pattern of two equally near ones. */
function nearest(value: number): number {
  const sign = Object.is(value, -0) || value < 0 ? 0x8000 : 0;
  const size = Math.abs(value);
  let low = 0;
  let high = finite.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((finite[middle] ?? beyond) <= size) low = middle;
    else high = middle;
  }
  const below = size - (finite[low] ?? 0);
  const above = (finite[high] ?? beyond) - size;
  const up = above < below || (above === below && low % 2 === 1);
  return sign | (up ? high : low);
}

describe("bfloat16", () => {
  test("all patterns decode as the format says", () => {
    for (let bits = 0; bits < 0x10000; bits++) expect(numberFromBfloat16(bits)).toBe(decode(bits));
  });

  test("all patterns but NaN survive a round trip", () => {
    for (let bits = 0; bits < 0x10000; bits++) {
      if (!Number.isNaN(decode(bits))) expect(bfloat16FromNumber(decode(bits))).toBe(bits);
    }
  });

  test("every tie goes to the even neighbour, both signs", () => {
    for (let bits = 0; bits < 0x7f80; bits++) {
      const tie = (decode(bits) + (finite[bits + 1] ?? beyond)) / 2;
      const even = bits % 2 === 0 ? bits : bits + 1;
      expect(bfloat16FromNumber(tie)).toBe(even);
      expect(bfloat16FromNumber(-tie)).toBe(even | 0x8000);
    }
  });

  test("just off a tie goes to the nearer one", () => {
    const words = new Uint32Array(1);
    const floats = new Float32Array(words.buffer);
    for (let bits = 0; bits < 0x7f80; bits++) {
      words[0] = (bits << 16) | 0x7fff;
      expect(bfloat16FromNumber(floats[0] ?? Number.NaN)).toBe(bits);
      words[0] = (bits << 16) | 0x8001;
      expect(bfloat16FromNumber(floats[0] ?? Number.NaN)).toBe(bits + 1);
    }
  });

  test.each([
    ["zero", 0, 0x0000],
    ["negative zero", -0, 0x8000],
    ["one", 1, 0x3f80],
    ["infinity", Number.POSITIVE_INFINITY, 0x7f80],
    ["negative infinity", Number.NEGATIVE_INFINITY, 0xff80],
    ["largest", largest, 0x7f7f],
    ["float32's largest", 3.4028234663852886e38, 0x7f80],
    ["past float32", 1e39, 0x7f80],
    ["smallest subnormal", 2 ** -133, 0x0001],
    ["half of it is a tie with 0", 2 ** -134, 0x0000],
    ["three quarters of it", 1.5 * 2 ** -134, 0x0001],
    ["largest subnormal", 127 * 2 ** -133, 0x007f],
    ["smallest normal", 2 ** -126, 0x0080],
    ["below float32", 1e-60, 0x0000],
    ["below float32, negative", -1e-60, 0x8000],
  ])("%s", (_, value, bits) => {
    expect(bfloat16FromNumber(value)).toBe(bits);
  });

  test("NaN of any payload is the quiet one", () => {
    const words = new Uint32Array([0x7f800001, 0x7fffffff, 0xff800001, 0xffc00000]);
    for (const nan of [Number.NaN, ...new Float32Array(words.buffer)]) {
      expect(bfloat16FromNumber(nan)).toBe(0x7fc0);
    }
  });

  test("random floats agree with a search over all numbers of the format", () => {
    fc.assert(
      fc.property(fc.float({ noNaN: true, noDefaultInfinity: true }), (value) => {
        expect(bfloat16FromNumber(value)).toBe(nearest(value));
      }),
      { numRuns: 5_000 },
    );
  });
});
