import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { allWell } from "../fixtures/all-well.ts";
import { describeGloo } from "./fixtures/availability.ts";

setDefaultTimeout(60_000);

describeGloo("gloo, lists, coalescing, objects and sparse tensors", () => {
  test.each([1, 2, 3, 4])("%d ranks", async (worldSize) => {
    const outcomes = await spawnRanks(worldSize, new URL("./fixtures/composed-ops.ts", import.meta.url), {
      timeout: "40s",
    });
    const passed = allWell<string[]>(outcomes);
    expect(passed.map((parts) => parts.length)).toEqual(Array(worldSize).fill(5));
  });
});
