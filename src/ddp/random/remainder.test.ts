import { expect, test } from "bun:test";
import fc from "fast-check";
import { remainder, remainder64 } from "./remainder.ts";

const word = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const divisor = fc.oneof(fc.integer({ min: 1, max: 2 ** 32 }), fc.integer({ min: 2 ** 32 - 100, max: 2 ** 32 }));
const fewer = fc.integer({ min: -2, max: 2 });

test("remainder() of 48 bits", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 48 - 1 }), divisor, (dividend, by) => {
      expect(remainder(dividend, by)).toBe(Number(BigInt(dividend) % BigInt(by)));
    }),
  );
});

test("remainder() next to multiples of the divisor, where the quotient is nearly an integer", () => {
  fc.assert(
    fc.property(divisor, fc.integer({ min: 1, max: 2 ** 16 - 1 }), fewer, (by, times, more) => {
      const dividend = Math.min(Math.max(by * times + more, 0), 2 ** 48 - 1);
      expect(remainder(dividend, by)).toBe(Number(BigInt(dividend) % BigInt(by)));
    }),
  );
});

test("remainder64() of 64 bits", () => {
  fc.assert(
    fc.property(word, word, divisor, (upper, lower, by) => {
      const whole = (BigInt(upper) << 32n) | BigInt(lower);
      expect(remainder64(upper, lower, by)).toBe(Number(whole % BigInt(by)));
    }),
  );
});
