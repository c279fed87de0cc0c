import { describe, setDefaultTimeout } from "bun:test";
import { workerRanks } from "../../testing/index.ts";
import { testTensorMemory } from "../fixtures/tensor-memory.ts";

setDefaultTimeout(120_000);

describe("fake, memory of tensors", () => {
  testTensorMemory("fake", (file, args) => workerRanks(2, file, { args, timeout: "100s" }));
});
