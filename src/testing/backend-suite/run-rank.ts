import { destroyProcessGroup, type InitOptions, initProcessGroup } from "../../distributed/index.ts";
import type { BackendPlugin } from "../../registry/index.ts";
import { openMemory, type RankPlace, type SuiteMemory } from "./device-memory.ts";
import { type CaseReport, runCases, type SuiteOrder } from "./run-cases.ts";

/** What a rank of the suite is run with. */
export interface RankInit {
  readonly plugin: BackendPlugin;
  /** Where its tensors are to be; host memory if undefined. */
  readonly memory: SuiteMemory | undefined;
  readonly place: RankPlace;
  /** Where and how it meets the others. */
  readonly init: InitOptions;
  report(report: CaseReport): unknown;
}

/** Runs one rank of the suite, in a default group that is bound to the device of the memory. */
export async function runRank(order: SuiteOrder, { plugin, memory, place, init, report }: RankInit): Promise<void> {
  const opened = memory && (await openMemory(memory, place));
  const { options } = order;
  try {
    const deviceId = opened?.device;
    await initProcessGroup({ ...init, backend: plugin.name, options, ...(deviceId && { deviceId }) });
    await runCases(order, { capabilities: plugin.capabilities, memory: opened, report });
    await destroyProcessGroup();
  } catch (error) {
    // The error of the backend is reported, rather than that of closing the memory, which may follow from it.
    await opened?.memory.close().catch(() => {});
    throw error;
  }
  await opened?.memory.close();
}
