import { setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { allWell, describeUcc, spawn } from "./fixtures/availability.ts";
import { type Mismatch, type MismatchEnd, mismatches } from "./fixtures/mismatch.ts";
import { expectMismatches } from "./fixtures/mismatch-texts.ts";

setDefaultTimeout(100_000);

describeUcc("ucc, calls that do not fit together", () => {
  test("are an error on every rank, which names two of them and what each has called", async () => {
    const file = new URL("./fixtures/mismatch.ts", import.meta.url);
    const options = { ...spawn, args: { acrossHosts: false }, timeout: "80s" };
    const all = allWell<MismatchEnd[]>(await spawnRanks(3, file, options));
    for (const ends of all) expectMismatches(ends, Object.keys(mismatches) as Mismatch[]);
  });
});
