import { describe, expect, test } from "bun:test";
import { op, over, record } from "../dashboard/fixtures/records.ts";
import { topTable } from "./top-table.ts";
import type { WatchedJob } from "./watched-job.ts";

const job = (id: string, ranks: WatchedJob["ranks"] = []): WatchedJob => ({
  ...{ id, program: "train.ts", attempt: 0, worldSize: 3, ranks, unknown: [] },
});
const table = (shown: WatchedJob, others: readonly WatchedJob[] = [], width = 80, colours = false) =>
  topTable({ job: shown, others, ratesOf: () => undefined }, { colours, width });

describe("the head of c10d top", () => {
  const healthy = job("a", [record(0, 1, [op("allReduce", 1)])]);

  test.each([40, 60, 80, 200, Number.POSITIVE_INFINITY])("has one line for 25 other jobs in %d columns", (width) => {
    const others = Array.from({ length: 25 }, (_, i) => job(`f100d00c-f824-4b30-9211-5f894f2cac${i + 10}`));
    const { head } = table(healthy, others, width);
    // The job, the others, an empty line, the names of the columns.
    expect(head).toHaveLength(4);
    expect(head[1]).toMatch(/^(also running: .* and 2\d more|and 25 other jobs)$/);
    expect(Bun.stringWidth(head[1] ?? "")).toBeLessThanOrEqual(width);
  });

  test("names the others where they fit", () => {
    expect(table(healthy, [job("b"), job("c")]).head[1]).toBe("also running: b (train.ts), c (train.ts)");
    expect(table(healthy, [job("b"), job("c")], 37).head[1]).toBe("also running: b (train.ts) and 1 more");
    expect(table(healthy, [job("b")], 20).head.at(-3)).toBe("and 1 other job");
    expect(table(healthy).head[1]).toBe("");
  });

  test("says on how many ranks ops have failed, which are marked, in red", () => {
    const fails = { ended: 999_000, hasFailed: true };
    const ranks = [
      record(0, 3, [op("allReduce", 3, fails)]),
      record(1, 3, [op("broadcast", 3, fails)]),
      // It has recovered.
      record(2, 4, [op("allReduce", 3, fails), over("barrier", 4)]),
    ];
    const { head, body } = table(job("a", ranks));
    expect(head[1]).toBe("ops have failed on 2 of 3 ranks here (×)");
    expect(body.map((line) => line[0])).toEqual(["×", "×", " "]);
    const red = table(job("a", ranks), [], 80, true);
    expect([red.head[1], ...red.body].map((line) => line?.startsWith("\x1b[31m"))).toEqual([true, true, true, false]);
    expect(table(job("a", ranks.slice(1))).head[1]).toBe("an op has failed on 1 of 2 ranks here (×)");
    expect(table(job("a", ranks.slice(2))).head[1]).toBe("");
  });
});

test("a time below a second is in milliseconds", () => {
  const { body } = table(job("a", [record(0, 1, [op("allReduce", 1, { began: 999_988 })])]));
  expect(body[0]).toMatch(/ 12 ms/);
});
