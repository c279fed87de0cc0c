/** A rank of the suite in a process of its own. */
import { destroyProcessGroup, initProcessGroup } from "../../distributed/index.ts";
import { type BackendPlugin, registerBackend } from "../../registry/index.ts";
import type { RankBody } from "../spawn-ranks.ts";
import { type CaseReport, runCases, type SuiteOrder } from "./run-cases.ts";

export interface SuiteRankArgs extends SuiteOrder {
  /** URL of the file whose default export is the plugin. */
  readonly module: string;
}

const body: RankBody<SuiteRankArgs> = async ({ args, report }) => {
  const { default: plugin } = (await import(args.module)) as { default: BackendPlugin };
  registerBackend(plugin, { replace: true });
  await initProcessGroup({ backend: plugin.name, timeout: "30s", options: args.options });
  await runCases(args, plugin.capabilities, (each: CaseReport) => report(each));
  await destroyProcessGroup();
};

export default body;
