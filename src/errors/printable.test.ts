import { expect, test } from "bun:test";
import { printable, printableProse } from "./printable.ts";

test("what could move the cursor or hide text is written as in JavaScript", () => {
  expect(printable("a\u001b[0m\nb\t\u202ec\ud83d")).toBe("a\\x1b[0m\\nb\\t\\u{202e}c\\u{d83d}");
  expect(printable("naïve 世界 🚂")).toBe("naïve 世界 🚂");
  expect(printableProse("first:\n  second\u0007\r\n")).toBe("first: second\\x07");
});
