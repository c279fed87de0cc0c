import { testBackend } from "../../testing/index.ts";
import { describeUcc, spawn } from "./fixtures/availability.ts";
import plugin from "./plugin.ts";

describeUcc("ucc conformance", () => {
  testBackend(plugin, { worldSizes: [1, 2, 3, 4], spawn });
});
