import type { BackendPlugin } from "../../registry/index.ts";
import { startRanks } from "../ranks/spawn-ranks.ts";
import { workerRanks } from "../ranks/worker-ranks.ts";
import { type SuiteMemory, sourceOfMemory } from "./device-memory.ts";
import type { LossArgs, Survival } from "./loss-rank.ts";
import { type LossCase, lossCases } from "./losses.ts";
import { placeOfPlugin } from "./plugin-place.ts";
import { type CaseResult, describeEnding, type Ended, type SuiteSpawn } from "./run-suite.ts";

export interface LossRun {
  readonly plugin: BackendPlugin;
  readonly worldSize: number;
  readonly lost: LossCase;
  /** Where tensors are to be; host memory by default. */
  readonly memory?: SuiteMemory | undefined;
  readonly options?: Readonly<Record<string, unknown>>;
  readonly spawn: Exclude<SuiteSpawn, false>;
  /** Limit of the whole job, after which remaining ranks are reported as hung. 40 s by default. */
  readonly limitMs?: number;
}

const JOB_LIMIT_MS = 40_000;

/** Runs a case in which a rank is lost. Never rejects because of a rank. */
export async function runLoss({
  plugin,
  worldSize,
  lost,
  memory,
  options = {},
  spawn,
  limitMs = JOB_LIMIT_MS,
}: LossRun): Promise<CaseResult> {
  // So that each rank is the lost one in some case.
  const culprit = (worldSize - 1 + lossCases.indexOf(lost)) % worldSize;
  const args: LossArgs = {
    ...placeOfPlugin(plugin),
    lost,
    culprit,
    memory: sourceOfMemory(memory, plugin.name),
    options,
  };
  const file = new URL("./loss-rank.ts", import.meta.url);
  // What the backend says is judged: with status records, the process group would correct it.
  const env = { ...(spawn !== "workers" && spawn.env), C10D_STATUS: "0" };
  const terms = { args, env, timeout: limitMs };
  const isLaunched = spawn !== "workers" && spawn.launcher !== undefined;
  const outcomes: readonly Ended[] =
    spawn === "workers"
      ? await workerRanks(worldSize, file, terms)
      : await runProcesses(worldSize, culprit, file, { ...spawn, ...terms });
  const survivors = outcomes.filter(({ rank }) => rank !== culprit);
  const failures = survivors.flatMap((outcome) => {
    const survival = outcome.reports.find(isSurvival);
    const ending = describeEnding(outcome, outcomes);
    const name = `rank ${outcome.rank}`;
    if (survival === undefined) {
      return [`${name} did not report after the loss of rank ${culprit}${ending === undefined ? "" : `: ${ending}`}`];
    }
    if (survival.error !== undefined) return [`${name}: ${survival.error}`];
    // A launcher ends the remaining ranks when the lost rank ends.
    return ending === undefined || isLaunched ? [] : [`${name} did not end cleanly after it: ${ending}`];
  });
  const survivals = survivors.flatMap(({ reports }) => reports.find(isSurvival) ?? []);
  if (survivals.some(({ isKnown }) => isKnown) && !survivals.some(({ isNamed }) => isNamed)) {
    failures.push(`none of the remaining ranks has rank ${culprit} in the details.peers of its error`);
  }
  const checks = survivals.reduce((sum, each) => sum + each.checks, 0);
  return { name: lost.name, checks, failures };
}

async function runProcesses(
  worldSize: number,
  culprit: number,
  file: URL,
  options: Parameters<typeof startRanks>[2],
): Promise<readonly Ended[]> {
  const job = await startRanks(worldSize, file, options);
  const others = job.ranks.filter(({ rank }) => rank !== culprit);
  await Promise.allSettled(others.map((rank) => rank.reported(isSurvival)));
  try {
    // A stopped rank cannot end itself.
    job.ranks[culprit]?.kill("SIGKILL");
  } catch {
    // It has already ended.
  }
  return job.done;
}

function isSurvival(report: unknown): report is Survival {
  return typeof report === "object" && report !== null && "checks" in report && "error" in report;
}
