// The conformance suite with two ranks, in whichever way they can be had. The last part, since the time may be over.
import { runConformance } from "../conformance.ts";
import { runPart, Skipped } from "../part.ts";

await runPart(async ({ twoRanks, short }, limitMs) => {
  if (short) throw new Skipped("not in the short form");
  if (twoRanks === undefined) throw new Skipped("two ranks did not work");
  return await runConformance({ ranks: 2, env: twoRanks.env }, limitMs);
});
