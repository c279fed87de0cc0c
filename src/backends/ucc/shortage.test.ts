import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { allWell } from "../fixtures/all-well.ts";
import { describeUcc, spawn } from "./fixtures/availability.ts";
import type { Shortage } from "./fixtures/shortage.ts";

setDefaultTimeout(100_000);

const body = new URL("./fixtures/shortage.ts", import.meta.url);

describeUcc("ucc, a process that runs out", () => {
  test.each([1_000, 300_000])(
    "of address space: no all-reduce of %d floats succeeds without a result",
    async (floats) => {
      const ends = allWell<Shortage>(await spawnRanks(2, body, { ...spawn, args: { of: floats }, timeout: "60s" }));
      for (const { wrong } of ends) expect(wrong).toBe(0);
      const { codes, error } = ends[0] as Shortage;
      expect(codes).toContain("OUT_OF_MEMORY");
      expect(error).toMatchObject({ name: "DistBackendError", code: "OUT_OF_MEMORY" });
      expect(error?.message).toMatch(/Cannot allocate memory/);
    },
  );

  test("of file descriptors: the error says so", async () => {
    const ends = allWell<Shortage>(
      await spawnRanks(2, body, { ...spawn, args: { of: "descriptors" }, timeout: "60s" }),
    );
    // The first to notice gives up, which the other may learn before it notices itself.
    expect(ends.map(({ error }) => error?.code)).toContain("OUT_OF_DESCRIPTORS");
    for (const { error } of ends) {
      if (error?.code !== "OUT_OF_DESCRIPTORS") {
        expect(error?.code).toBe("PEER_LOST");
        expect(error?.message).toMatch(/rank \d has given up making the group: /);
      }
      expect(error?.message).toMatch(/too few file descriptors: UCX needs \d+ .* can open \d+ more of the \d+/);
    }
  });
});
