import { setDefaultTimeout } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { testTensorMemory } from "../fixtures/tensor-memory.ts";
import { describeGloo } from "./fixtures/availability.ts";

setDefaultTimeout(120_000);

describeGloo("gloo, memory of tensors", () => {
  testTensorMemory("gloo", (file, args) => spawnRanks(2, file, { args, timeout: "100s" }));
});
