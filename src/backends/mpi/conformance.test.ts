import { testBackend } from "../../testing/index.ts";
import { describeMpi, launchWith } from "./fixtures/availability.ts";
import { implementations } from "./implementation.ts";
import plugin from "./plugin.ts";

for (const implementation of implementations) {
  describeMpi("mpi conformance", implementation, () => {
    testBackend(plugin, { worldSizes: [2, 3, 4], spawn: launchWith(implementation) });
  });
}
