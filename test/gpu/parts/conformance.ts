// The conformance suite, one rank: all that one GPU can show of an op's arguments, order and memory.
import { runConformance } from "../conformance.ts";
import { runPart, Skipped } from "../part.ts";

await runPart(async ({ devices = [] }, limitMs) => {
  if (devices.length === 0) throw new Skipped("no device");
  return await runConformance({ ranks: 1, env: {} }, limitMs);
});
