import { describe } from "bun:test";
import { testBackend } from "../../testing/index.ts";
import { describeGloo } from "./fixtures/availability.ts";
import plugin from "./plugin.ts";

describeGloo("gloo conformance", () => {
  testBackend(plugin, { worldSizes: process.env.C10D_SWEEP === "full" ? [1, 2, 3, 4] : [2, 3] });

  // In Workers, native waits are short, and ops are taken over halfway.
  describe("in Workers", () => {
    testBackend(plugin, { worldSizes: [2], spawn: "workers" });
  });
});
