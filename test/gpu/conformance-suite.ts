// Run by `bun test ./test/gpu/conformance-suite.ts`: the conformance suite with the CUDA devices and the NCCL of this
// machine, for world sizes in C10D_GPU_WORLD_SIZES.
import { setDefaultTimeout } from "bun:test";
import plugin from "../../src/backends/nccl/plugin.ts";
import { testBackend } from "../../src/testing/index.ts";
import memory from "./cuda-memory.ts";
import { ncclLimits } from "./nccl-limits.ts";

setDefaultTimeout(60_000);

const worldSizes = (process.env.C10D_GPU_WORLD_SIZES ?? "1").split(",").map(Number);
testBackend(plugin, { worldSizes, memory, skip: ncclLimits });
