import { testBackend } from "bun-c10d/testing";
import plugin from "./sockets.ts";

testBackend(plugin, {
  worldSizes: [1, 2, 3, 4],
  waitCannotBlock: "its steps run on the thread that would block",
});
