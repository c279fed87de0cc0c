import { expect, setDefaultTimeout, test } from "bun:test";
import { describeGloo } from "../backends/gloo/fixtures/availability.ts";
import * as dist from "../index.ts";
import { spawnRanks } from "../testing/index.ts";

setDefaultTimeout(60_000);

describeGloo("groups made of groups", () => {
  test("splitGroup and roundRobinProcessGroups with 3 ranks", async () => {
    const outcomes = await spawnRanks(3, new URL("./fixtures/derived-groups.ts", import.meta.url));
    for (const { rank, error, exitCode, value } of outcomes) {
      expect(error).toBeUndefined();
      expect(exitCode).toBe(0);
      const sum = rank === 1 ? 2 : 4;
      expect(value).toEqual({
        sums: [sum, sum],
        outside: rank === 2 ? null : 2,
        reduced: Array.from({ length: 20 }, (_, i) => 3 * i + 3),
        listed: [1, 2, 3],
        objects: [0, 1, 2],
        unsupported: "UnsupportedOperationError",
        perLane: [0, 0],
        state: ["CLOSED", "CLOSED"],
      });
    }
  });
});

test("roundRobinProcessGroups wants groups of the same ranks", () => {
  expect(() => dist.roundRobinProcessGroups([])).toThrow("Specify at least 1 process group");
});

test("splitGroup refuses parts that are no partition", async () => {
  await using _group = await dist.initProcessGroup({
    backend: "gloo",
    store: new dist.HashStore(),
    rank: 0,
    worldSize: 1,
  });
  await expect(dist.splitGroup([])).rejects.toThrow("not empty");
  await expect(dist.splitGroup([[]])).rejects.toThrow("cannot be empty");
  await expect(dist.splitGroup([[0], [0]])).rejects.toThrow("duplicates");
  await expect(dist.splitGroup([[1]])).rejects.toThrow("rank 1 is not in group");
});
