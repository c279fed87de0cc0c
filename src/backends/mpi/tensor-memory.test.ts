import { setDefaultTimeout } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { testTensorMemory } from "../fixtures/tensor-memory.ts";
import { describeMpi, launchWith } from "./fixtures/availability.ts";
import { implementations } from "./implementation.ts";

setDefaultTimeout(120_000);

for (const implementation of implementations) {
  describeMpi("mpi, memory of tensors", implementation, () => {
    testTensorMemory("mpi", (file, args) =>
      spawnRanks(2, file, { ...launchWith(implementation), args, timeout: "100s" }),
    );
  });
}
