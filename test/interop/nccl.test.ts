import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { emulatedPython, emulatorEnvironment } from "../gpu/emulator.ts";
import { bunRank, type Program, pythonRank, runPair } from "../gpu/pair.ts";
import { describeWithTorch214 } from "./torch.ts";

setDefaultTimeout(150_000);

describeWithTorch214(
  "a communicator of PyTorch's ProcessGroupNCCL and Bun, on the emulators of CUDA and NCCL",
  (python) => {
    const torch = pythonRank(...emulatedPython(python));
    describe.each([
      ["made by the first op", false],
      ["made at once, for a bound device", true],
    ])("%s", (_, eager) => {
      test.each([
        ["PyTorch is rank 0", [torch, bunRank]],
        ["Bun is rank 0", [bunRank, torch]],
      ] satisfies [string, [Program, Program]][])("%s", async (_, programs) => {
        const env = emulatorEnvironment();
        const outcome = await runPair({ programs, devices: ["cuda:0", "cuda:1"], env, eager, limitMs: 120_000 });
        expect(outcome).toEqual({ passed: true, steps: 33, wrong: [] });
      });
    });
  },
);
