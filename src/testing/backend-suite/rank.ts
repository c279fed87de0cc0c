/** A rank of the suite in a process of its own. */
import { BACKEND_MIDDLEWARE, defaultContainer } from "../../registry/index.ts";
import type { RankBody } from "../ranks/spawn-ranks.ts";
import { loadMemory, type MemorySource } from "./device-memory.ts";
import { loadPlugin, type PluginPlace } from "./plugin-place.ts";
import type { SuiteOrder } from "./run-cases.ts";
import { runRank } from "./run-rank.ts";
import { suiteMiddleware } from "./settings.ts";

export interface SuiteRankArgs extends SuiteOrder, PluginPlace {
  /** Where the memory of devices is; undefined for host memory. */
  readonly memory: MemorySource | undefined;
}

const body: RankBody<SuiteRankArgs> = async ({ rank, worldSize, args, report }) => {
  const plugin = await loadPlugin(args);
  defaultContainer().register(BACKEND_MIDDLEWARE, { useValue: suiteMiddleware });
  const memory = args.memory === undefined ? undefined : await loadMemory(args.memory);
  await runRank(args, { plugin, memory, place: { rank, worldSize }, init: { timeout: "30s" }, report });
};

export default body;
