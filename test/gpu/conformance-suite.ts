// Run by `bun test ./test/gpu/conformance-suite.ts`: the conformance suite with the CUDA devices and the NCCL of this
// machine. C10D_GPU_CONFORMANCE is a ConformanceTerms in JSON; one rank by default.
import { setDefaultTimeout } from "bun:test";
import { leftOut } from "../../src/backends/nccl/fixtures/left-out.ts";
import plugin from "../../src/backends/nccl/plugin.ts";
import { testBackend } from "../../src/testing/index.ts";
import type { ConformanceTerms } from "./conformance.ts";
import memory from "./cuda-memory.ts";
import { spawnWith } from "./two-ranks.ts";

setDefaultTimeout(60_000);

const text = process.env.C10D_GPU_CONFORMANCE ?? '{ "ranks": 1, "env": {} }';
const { ranks, env } = JSON.parse(text) as ConformanceTerms;
testBackend(plugin, { worldSizes: [ranks], memory, skip: leftOut, spawn: spawnWith(env) });
