import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { allWell } from "../fixtures/all-well.ts";
import { describeGloo } from "./fixtures/availability.ts";
import type { Hazards } from "./fixtures/hazards.ts";
import plugin from "./plugin.ts";

setDefaultTimeout(60_000);

const worldSize = 3;

describeGloo("gloo, hazards", () => {
  test("one rank gathers nothing, guessable numbers, another libuv in the process", async () => {
    const file = new URL("./fixtures/hazards.ts", import.meta.url);
    const results = allWell<Hazards>(await spawnRanks(worldSize, file, { timeout: "50s" }));

    // All see that the sizes differ; no rank waits for the time-out, and the group has failed on all.
    for (const { gathered, gatherMs, next } of results) {
      expect(gathered).toMatchObject({
        name: "DistBackendError",
        code: "DESYNC",
        details: { op: "allGather", peers: [] },
      });
      expect(gathered?.message).toContain("rank 2 called allGather(float64[0])");
      expect(gatherMs).toBeLessThan(5_000);
      expect(next?.message).toContain("make a new group with newGroup()");
    }
    expect(results.map(({ sum }) => sum)).toEqual([6, 6, 6]);

    // The numbers that peers present are 63 random bits: they fail to be distinct and large once in 2^20 runs or less.
    const numbers = results.flatMap(({ numbers }, rank) => numbers.filter((_, peer) => peer !== rank).map(BigInt));
    expect(numbers).toHaveLength(worldSize * (worldSize - 1));
    expect(new Set(numbers).size).toBe(numbers.length);
    for (const number of numbers) expect(number > 2n ** 40n).toBe(true);

    // Its functions would be Bun's, which end the process.
    const availability = await plugin.probe();
    const generation = availability.available ? availability.version.split(" of ")[1] : undefined;
    expect(generation).toBeOneOf(["2022", "2023", "2025"]);
    expect(results.map(({ libuv }) => libuv)).toEqual(results.map(() => generation === "2025"));
  });
});
