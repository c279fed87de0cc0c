// Run by test/gpu/fakegpu: two ranks' exchange, with all kinds of ops but those that FakeGPU cannot do.
import { bunRank, runPair } from "./pair.ts";

const { passed, steps, wrong } = await runPair({
  programs: [bunRank, bunRank],
  devices: ["cuda:0", "cuda:1"],
  without: ["all-to-all"],
  limitMs: 60_000,
});
console.log(passed ? `exchange of two ranks: ${steps} steps passed` : wrong.join("\n"));
process.exitCode = passed ? 0 : 1;
