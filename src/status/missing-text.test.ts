import { expect, test } from "bun:test";
import { at, op, record } from "../cli/dashboard/fixtures/records.ts";
import { missingTexts } from "./index.ts";

const split = { maker: "splitGroup", parent: "0", turn: 2, began: at - 2_500, callSite: undefined } as const;
const groups = (rank: number, made: number) => [{ name: "0", backend: "fake", rank, size: 3, turn: 0, made }];

test("who has not called the first collective that others wait in is named, for each group", () => {
  const waits = [op("allReduce", 2), op("barrier", 3), op("broadcast", 3, { group: "tp" })];
  const own = { name: "tp", backend: "fake", rank: 0, size: 2, made: 0 };
  const both = (rank: number, turn: number) => {
    const { groups, ...rest } = record(rank, turn, rank === 0 ? waits : []);
    return { ...rest, groups: [...groups, { ...own, rank, turn }] };
  };
  expect(missingTexts([both(0, 3), record(1, 1, []), both(2, 1)], 1_000)).toEqual([
    'ranks 1, 2 have not called allReduce #2 on group "0" (fake)',
    'rank 2 has not called broadcast #3 on group "tp" (fake)',
  ]);
  expect(missingTexts([both(0, 3), record(1, 1, [])], 4_000)).toEqual([]);
});

test("so is who does not make a group", () => {
  const ranks = [
    record(0, 0, [], { making: split, groups: groups(0, 2) }),
    record(1, 0, [], { groups: groups(1, 1) }),
    record(2, 0, [], { making: split, groups: groups(2, 2) }),
  ];
  expect(missingTexts(ranks, 1_000)).toEqual(["rank 1 has not called splitGroup"]);
  expect(missingTexts(ranks, 3_000)).toEqual([]);
});
