import { describe } from "bun:test";
import { testBackend } from "../../testing/index.ts";
import plugin from "./plugin.ts";

testBackend(plugin, { worldSizes: [1, 2, 3, 4], spawn: false });

describe("in Workers, where wait() blocks", () => {
  testBackend(plugin, { worldSizes: [2, 3], spawn: "workers" });
});

describe("delivered in an order that a seed determines", () => {
  testBackend(plugin, { worldSizes: [3], spawn: false, options: { seed: 20 } });
});
