import { expect, test } from "bun:test";
import { Mt19937 } from "./mt19937.ts";

test("the sequence of seed 5489 is that of C++'s std::mt19937", () => {
  const engine = new Mt19937(5489);
  expect([engine.next(), engine.next()]).toEqual([3_499_211_612, 581_869_302]);
  for (let i = 3; i < 10_000; i++) engine.next();
  // The standard states this number.
  expect(engine.next()).toBe(4_123_659_995);
});

test("seed() starts anew, in the middle of a block too", () => {
  const engine = new Mt19937(1);
  const numbers = Array.from({ length: 1500 }, () => engine.next());
  engine.seed(2);
  expect(engine.next()).not.toBe(numbers[0] ?? 0);
  engine.seed(1);
  expect(Array.from({ length: 1500 }, () => engine.next())).toEqual(numbers);
});
