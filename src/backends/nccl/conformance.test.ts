import { sweepFromEnvironment } from "../../testing/backend-suite/backend-suite.ts";
import { testBackend } from "../../testing/index.ts";
import memory from "./fixtures/emulated-memory.ts";
import { describeEmulator, emulatorEnv } from "./fixtures/emulator.ts";
import { leftOut } from "./fixtures/left-out.ts";
import { pluginOf, releases } from "./fixtures/plugin-of-release.ts";
import plugin from "./plugin.ts";

const { full, seed } = sweepFromEnvironment();
// A smoke sweep runs one of the larger jobs with the newest library, and one rank with an older one; others the next day.
const larger = [2, 4][seed % 2] ?? 2;
const [newest = "", ...older] = [...releases].reverse();
const rotating = older[seed % older.length] ?? newest;
const jobs: readonly (readonly [release: string, worldSizes: readonly number[]])[] = full
  ? releases.map((release) => [release, [1, 2, 4]])
  : [
      [newest, [larger]],
      [rotating, [1]],
    ];
if (!full) {
  const text = jobs.map(([release, sizes]) => `${sizes.join()} ranks with ${release}`).join(", ");
  console.log(`sample: nccl conformance on the emulator, ${text}, C10D_SEED=${seed}`);
}

for (const [release, worldSizes] of jobs) {
  describeEmulator(`nccl conformance, on emulators of CUDA and NCCL ${release}`, () => {
    testBackend(pluginOf(release), { worldSizes, spawn: { env: emulatorEnv(release) }, memory, skip: leftOut });
  });
}

describeEmulator("nccl conformance, on the emulators, with communicators that are made by the first op", () => {
  testBackend(plugin, {
    spawn: { env: emulatorEnv() },
    memory,
    worldSizes: full ? [1, 2, 3] : [2],
    skip: leftOut,
    waitCannotBlock: "the communicator is made by code that runs on the thread that waits",
    options: { eager: false },
  });
});
