import { sweepFromEnvironment } from "../../testing/backend-suite/backend-suite.ts";
import { testBackend } from "../../testing/index.ts";
import { describeMpi, launchWith } from "./fixtures/availability.ts";
import { implementations } from "./implementation.ts";
import plugin from "./plugin.ts";

const { full, seed } = sweepFromEnvironment();

for (const [i, implementation] of implementations.entries()) {
  // A smoke sweep runs one of the larger jobs with each MPI, and the other one the next day.
  const larger = 3 + ((seed + i) % 2);
  if (!full) console.log(`sample: mpi conformance (${implementation}), 2 and ${larger} ranks, C10D_SEED=${seed}`);
  describeMpi("mpi conformance", implementation, () => {
    testBackend(plugin, { worldSizes: full ? [2, 3, 4] : [2, larger], spawn: launchWith(implementation) });
  });
}
