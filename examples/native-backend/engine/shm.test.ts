import "./build.ts";
import { testBackend } from "bun-c10d/testing";
import plugin from "./shm.ts";

testBackend(plugin, { worldSizes: [1, 2, 3, 4] });
