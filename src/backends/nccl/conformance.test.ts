import { sweepFromEnvironment } from "../../testing/backend-suite/backend-suite.ts";
import { testBackend } from "../../testing/index.ts";
import { describeEmulator, emulatorEnv } from "./fixtures/emulator.ts";
import { leftOut } from "./fixtures/left-out.ts";
import memory from "./fixtures/suite-memory.ts";
import plugin from "./plugin.ts";

const { full, seed } = sweepFromEnvironment();
// A smoke sweep runs one of the larger jobs, and the other one the next day.
const larger = [2, 4][seed % 2] ?? 2;
if (!full) console.log(`sample: nccl conformance on the emulator, 1 and ${larger} ranks, C10D_SEED=${seed}`);

const onEmulators = { spawn: { env: emulatorEnv() }, memory };

describeEmulator("nccl conformance, on emulators of CUDA and NCCL", () => {
  testBackend(plugin, { ...onEmulators, worldSizes: full ? [1, 2, 4] : [1, larger], skip: leftOut });
});

describeEmulator("nccl conformance, on the emulators, with communicators that are made by the first op", () => {
  testBackend(plugin, {
    ...onEmulators,
    worldSizes: full ? [1, 2, 3] : [2],
    skip: leftOut,
    waitCannotBlock: "the communicator is made by code that runs on the thread that waits",
    options: { eager: false },
  });
});
