import { testBackend } from "bun-c10d/testing";
import plugin from "./star.ts";

testBackend(plugin, { worldSizes: [1, 2, 3], waitCannotBlock: "its steps run on the very thread that would wait" });
