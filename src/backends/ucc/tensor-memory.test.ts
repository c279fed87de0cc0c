import { setDefaultTimeout } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { testTensorMemory } from "../fixtures/tensor-memory.ts";
import { describeUcc, spawn } from "./fixtures/availability.ts";

setDefaultTimeout(120_000);

describeUcc("ucc, memory of tensors", () => {
  testTensorMemory("ucc", (file, args) => spawnRanks(2, file, { ...spawn, args, timeout: "100s" }));
});
