// Run by test/gpu/fakegpu: the conformance suite on FakeGPU, without what that does otherwise than NCCL.
import { setDefaultTimeout } from "bun:test";
import { leftOut } from "../../src/backends/nccl/fixtures/left-out.ts";
import plugin from "../../src/backends/nccl/plugin.ts";
import { testBackend } from "../../src/testing/index.ts";
import memory from "./cuda-memory.ts";

setDefaultTimeout(60_000);

const fakeGpuLimits = [
  {
    reason: "FakeGPU refuses messages of no elements",
    tests: ["gather", "gatherSingle", "scatter"],
  },
  {
    reason: "FakeGPU runs the messages of a group one after the other, so that an exchange fails",
    tests: ["allToAll", "allToAllSingle"],
  },
  {
    reason: "FakeGPU waits for the other ranks inside a call, where nothing can end an op",
    tests: [
      "recv > times out when nobody sends",
      "failures > an op that a rank does not come to times out",
      "failures > abort ends what is in flight",
      "failures > closing a group ends what is in flight",
      "failures > the others learn that a rank has closed the group",
      "losses",
    ],
  },
];

testBackend(plugin, { worldSizes: [1, 2], memory, skip: [...leftOut, ...fakeGpuLimits] });
