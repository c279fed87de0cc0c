// Ops on several streams at once, with copies around them, and groups that are aborted while ops are in flight, over
// and over: one rank, then two if two ranks can be had. Results are compared, and memory must not grow.
import { runPart, Skipped } from "../part.ts";
import { type StressResult, stressRanks } from "../stress.ts";

await runPart(async ({ devices = [], short, twoRanks }) => {
  if (devices.length === 0) throw new Skipped("no device");
  const seconds = short ? 2 : 15;
  const lines: string[] = [];
  const results: StressResult[] = [await stressRanks({ devices: ["cuda:0"], env: {}, seconds })];
  if (twoRanks !== undefined) results.push(await stressRanks({ ...twoRanks, seconds }));
  else lines.push("two ranks did not work, so one rank only");
  for (const { ranks, rounds, checks, aborts, wrong } of results) {
    lines.push(
      `${ranks} rank${ranks > 1 ? "s" : ""}: ${rounds} rounds, ${checks} results compared, ${aborts} groups aborted`,
    );
    lines.push(...wrong);
  }
  const good = results.every(({ wrong, checks, aborts }) => wrong.length === 0 && checks > 0 && aborts > 0);
  return { outcome: good ? "passed" : "failed", lines, figures: results };
});
