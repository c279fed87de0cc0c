import { expect, test } from "bun:test";
import { callSiteText } from "./call-site-text.ts";
import { fittedTable } from "./fitted-table.ts";

const site = "src/train/step.ts:41:9";
const rows = [
  ["", "0", "18991", "in op", 'allReduce #481 on group "0"', "4.9 s", "1,200", "9.6 MB", site],
  ["!", "1", "18992", "running", 'after allReduce #480 on group "0"', "4.9 s ago", "1,200", "9.6 MB", ""],
  ["", "2", "18993", "in op", 'send #7 to rank 3 on group "tp"', "4.9 s", "0", "0 B", site],
];
const fitted = (width: number) => fittedTable(rows, width);

test.each([200, 120, 100, 80, 60, 59])("a table in %i columns has each rank, its op and its line", (width) => {
  const [names = "", ...lines] = fitted(width);
  expect(Math.max(...[names, ...lines].map((line) => Bun.stringWidth(line)))).toBeLessThanOrEqual(width);
  expect(names).toMatch(/^ {3}RANK .*OP .*FOR .*CALLED AT$/);
  expect(lines[0]).toMatch(/^ {6}0 .*allReduce #481.* 4\.9 s .*step\.ts:41(:9)?$/);
  expect(lines[1]).toMatch(/^! {5}1 .*after allReduce #480.* 4\.9 s ago/);
  expect(lines[2]).toMatch(/ send #7 to rank 3 on (group )?"tp" .*step\.ts:41/);
});

test("what is left out, the first of it first", () => {
  const shown = (width: number) => (fitted(width)[0] ?? "").trim().split(/ {2,}/);
  const all = ["RANK", "PID", "STATE", "OP", "FOR", "OPS/S", "BYTES/S", "CALLED AT"];
  const columns = [Number.POSITIVE_INFINITY, 92, 84, 80, 72, 60].map(shown);
  expect(columns).toEqual([
    all,
    all.filter((name) => name !== "PID"),
    all.filter((name) => name !== "PID"),
    all.filter((name) => !["PID", "OPS/S"].includes(name)),
    all.filter((name) => !["PID", "OPS/S", "BYTES/S"].includes(name)),
    all.filter((name) => !["PID", "OPS/S", "BYTES/S", "STATE"].includes(name)),
  ]);
  expect(fitted(Number.POSITIVE_INFINITY)[1]).toEndWith(site);
  expect(fitted(92)[1]).toContain(`allReduce #481 on group "0"`);
  expect(fitted(84)[1]).toContain("  allReduce #481   ");
});

test("a table without call sites has the other columns instead", () => {
  const without = rows.map((cells) => cells.with(8, ""));
  expect(fittedTable(without, 76)[0]).toEndWith("BYTES/S");
  expect(fittedTable(without, 200)[0]).toEndWith("CALLED AT");
});

test.each([
  [22, "src/train/step.ts:41:9"],
  [21, "…/train/step.ts:41:9"],
  [20, "…/train/step.ts:41:9"],
  [19, "step.ts:41:9"],
  [13, "step.ts:41:9"],
  [11, "step.ts:41"],
  [9, "…ep.ts:41"],
  [0, "…"],
])("a call site in %i columns", (room, text) => {
  expect(callSiteText(site, room)).toBe(text);
});
