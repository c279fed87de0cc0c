import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { bunRank, type Program, pythonRank, runPair } from "../gpu/pair.ts";
import { describeWithTorch214 } from "./torch.ts";

setDefaultTimeout(150_000);

const emulator = fileURLToPath(new URL("../../build/release/nccl-emulator", import.meta.url));
const libraries = { C10D_CUDA_LIBRARY: `${emulator}/libcuda.so.1`, C10D_NCCL_LIBRARY: `${emulator}/libnccl.so.2` };
/** In front of NVIDIA's, with which PyTorch comes. */
const preload = ["libcuda.so.1", "libemulated_cudart.so", "libnccl.so.2"]
  .map((name) => `${emulator}/${name}`)
  .join(":");

describeWithTorch214(
  "a communicator of PyTorch's ProcessGroupNCCL and Bun, on the emulators of CUDA and NCCL",
  (python) => {
    const torch: Program = (device) => ["env", `LD_PRELOAD=${preload}`, ...pythonRank(python)(device)];
    describe.each([
      ["made by the first op", false],
      ["made at once, for a bound device", true],
    ])("%s", (_, eager) => {
      test.each([
        ["PyTorch is rank 0", [torch, bunRank]],
        ["Bun is rank 0", [bunRank, torch]],
      ] satisfies [string, [Program, Program]][])("%s", async (_, programs) => {
        const env = { ...libraries, NCCL_EMULATOR_DEVICES: "2" };
        const outcome = await runPair({ programs, devices: ["cuda:0", "cuda:1"], env, eager, limitMs: 120_000 });
        expect(outcome).toEqual({ passed: true, steps: 33, wrong: [] });
      });
    });
  },
);
