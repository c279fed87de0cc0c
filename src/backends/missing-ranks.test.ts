import { expect, test } from "bun:test";
import { missingRanks } from "./missing-ranks.ts";

test.each<[string, number[]]>([
  ["[Rank 0]: Rank 2 failed to pass monitoredBarrier in 400 ms", [2]],
  ["rank 0: [Rank 0]: Ranks 1, 3, 12 failed to pass monitoredBarrier in 400 ms", [1, 3, 12]],
  ["timed out after 400 ms of waiting for rank 1", []],
  ["", []],
])("%j names %j", (text, ranks) => {
  expect(missingRanks(text)).toEqual(ranks);
});
