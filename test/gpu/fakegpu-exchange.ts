// fakegpu-exchange.ts [PYTHON PRELOAD]: the exchange of two ranks on FakeGPU, in an environment that test/gpu/fakegpu makes:
// both of Bun, and with PYTHON one of PyTorch, in either place, which PRELOAD gives FakeGPU's libraries.
import { bunRank, type Program, pythonRank, runPair } from "./pair.ts";

const [python, preload = ""] = Bun.argv.slice(2);
const pairs: [string, readonly [Program, Program]][] = [["two ranks of Bun", [bunRank, bunRank]]];
if (python !== undefined) {
  const torch = pythonRank("env", `LD_PRELOAD=${preload}`, python);
  pairs.push(["PyTorch is rank 0, Bun rank 1", [torch, bunRank]], ["Bun is rank 0, PyTorch rank 1", [bunRank, torch]]);
}
for (const [name, programs] of pairs) {
  const { passed, steps, wrong } = await runPair({
    programs,
    devices: ["cuda:0", "cuda:1"],
    without: ["exchange"],
    limitMs: 90_000,
  });
  console.log(`exchange, ${name}: ${passed ? `${steps} steps passed` : `failed\n${wrong.join("\n")}`}`);
  if (!passed) process.exitCode = 1;
}
