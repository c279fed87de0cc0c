/** A rank of the suite in a process of its own. */
import { InvalidArgumentError } from "../../errors/index.ts";
import { BACKEND_MIDDLEWARE, type BackendPlugin, defaultContainer, registerBackend } from "../../registry/index.ts";
import type { RankBody } from "../spawn-ranks.ts";
import { loadMemory, type MemorySource } from "./device-memory.ts";
import type { SuiteOrder } from "./run-cases.ts";
import { runRank } from "./run-rank.ts";
import { suiteMiddleware } from "./settings.ts";

export interface SuiteRankArgs extends SuiteOrder {
  /** Name of the plugin. */
  readonly backend: string;
  /** URL of the file whose default export is the plugin, or a list with it. */
  readonly module: string;
  /** Where the memory of devices is; undefined for host memory. */
  readonly memory: MemorySource | undefined;
}

const body: RankBody<SuiteRankArgs> = async ({ rank, worldSize, args, report }) => {
  const { default: exported } = (await import(args.module)) as { default?: BackendPlugin | readonly BackendPlugin[] };
  const plugin = [exported ?? []].flat().find(({ name }) => name === args.backend);
  if (plugin === undefined) {
    const text = `testBackend: ranks load backend "${args.backend}" from ${args.module}, but it is not the default export there`;
    throw new InvalidArgumentError(text, { argument: "module", backend: args.backend });
  }
  registerBackend(plugin, { replace: true });
  defaultContainer().register(BACKEND_MIDDLEWARE, { useValue: suiteMiddleware });
  const memory = args.memory === undefined ? undefined : await loadMemory(args.memory);
  await runRank(args, { plugin, memory, place: { rank, worldSize }, init: { timeout: "30s" }, report });
};

export default body;
