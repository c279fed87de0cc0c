import { sweepFromEnvironment } from "../../testing/backend-suite/backend-suite.ts";
import { testBackend } from "../../testing/index.ts";
import { describeEmulator, emulatorEnv } from "./fixtures/emulator.ts";
import memory from "./fixtures/suite-memory.ts";
import plugin from "./plugin.ts";

const { full, seed } = sweepFromEnvironment();
// A smoke sweep runs one of the larger jobs, and the other one the next day.
const larger = [2, 4][seed % 2] ?? 2;
if (!full) console.log(`sample: nccl conformance on the emulator, 1 and ${larger} ranks, C10D_SEED=${seed}`);

const skip = [
  {
    reason: "a send occupies the group's stream until it is received, so that ranks which all send first wait forever",
    tests: ["send and recv > round the ring, every dtype and size"],
  },
  {
    reason: "NCCL has no tags: messages between two ranks keep their order",
    tests: ["send and recv > tags tell messages apart"],
  },
];

const onEmulators = { spawn: { env: emulatorEnv() }, memory };

describeEmulator("nccl conformance, on emulators of CUDA and NCCL", () => {
  testBackend(plugin, { ...onEmulators, worldSizes: full ? [1, 2, 4] : [1, larger], skip });
});

describeEmulator("nccl conformance, on the emulators, with communicators that are made by the first op", () => {
  testBackend(plugin, {
    ...onEmulators,
    worldSizes: full ? [1, 2, 3] : [2],
    skip,
    waitCannotBlock: "the communicator is made by code that runs on the thread that waits",
    options: { eager: false },
  });
});
