// Two ranks: on two GPUs, or on one in whichever way this NCCL allows. What works, the parts after it use.

import { bunRank, runPair } from "../pair.ts";
import { runPart, Skipped } from "../part.ts";
import { waysForTwo } from "../two-ranks.ts";

await runPart(async (facts) => {
  const ways = waysForTwo(facts);
  if (ways.length === 0) throw new Skipped("no device");
  const lines: string[] = [];
  for (const { name, devices, env } of ways) {
    const limitMs = 35_000;
    const { passed, steps, wrong } = await runPair({ programs: [bunRank, bunRank], devices, env, limitMs });
    lines.push(`${name}: ${passed ? `${steps} steps passed` : "failed"}`, ...wrong);
    if (passed)
      return { outcome: "passed", lines, figures: { name, env, steps }, facts: { twoRanks: { devices, env } } };
  }
  return { outcome: "failed", lines };
});
