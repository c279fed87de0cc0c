// A rank of PyTorch and a rank of Bun in one communicator, each of them once as the first, which hosts the store and
// makes the unique id.

import { bunRank, type Program, pythonRank, runPair } from "../pair.ts";
import { runPart, Skipped } from "../part.ts";

await runPart(async ({ python, torchOnGpu, twoRanks }) => {
  if (python === undefined || torchOnGpu === undefined) throw new Skipped("there is no PyTorch that sees a GPU");
  if (twoRanks === undefined) throw new Skipped("two ranks did not work");
  const torch = pythonRank(...python);
  const orders: Readonly<Record<string, readonly [Program, Program]>> = {
    "PyTorch is rank 0, Bun rank 1": [torch, bunRank],
    "Bun is rank 0, PyTorch rank 1": [bunRank, torch],
  };
  const lines: string[] = [];
  let allPassed = true;
  for (const [name, programs] of Object.entries(orders)) {
    const { passed, steps, wrong } = await runPair({ programs, ...twoRanks, limitMs: 28_000 });
    allPassed &&= passed;
    lines.push(`${name}: ${passed ? `${steps} steps passed on both` : "failed"}`, ...wrong);
  }
  return { outcome: allPassed ? "passed" : "failed", lines };
});
