import { expect, test } from "bun:test";
import { colorOfNewGroup, colorOfPart } from "./split-color.ts";

test("the color of a new group is Python's hash of its ranks", () => {
  // abs(hash(tuple(ranks))) % 2**31, by CPython.
  const ranges = [[0], [0, 1], [1, 3], [0, 1, 2, 3], Array.from({ length: 100 }, (_, i) => i)];
  expect(ranges.map(colorOfNewGroup)).toEqual([59908776, 2130503744, 1984952676, 2003953581, 285575156]);
});

test("the color of a part is not negative, fits an int, and tells parts apart", () => {
  const parts = Array.from({ length: 64 }, (_, i) => [i, i + 1, i + 2]);
  const colors = parts.map(colorOfPart);
  for (const color of colors) expect(color >= 0 && color < 2 ** 31 - 1 && Number.isInteger(color)).toBe(true);
  expect(new Set(colors).size).toBe(parts.length);
  expect(colorOfPart([0])).toBe(0x9e3779b9 % (2 ** 31 - 1));
});
