import { BACKEND_MIDDLEWARE, type BackendPlugin, createContainer } from "../../registry/index.ts";
import { type LocalRank, LocalRanksError, localRanks } from "../ranks/local-ranks.ts";
import { type RankOutcome, type SpawnOptions, spawnRanks } from "../ranks/spawn-ranks.ts";
import { type WorkerOutcome, workerRanks } from "../ranks/worker-ranks.ts";
import { type SuiteMemory, sourceOfMemory } from "./device-memory.ts";
import { placeOfPlugin } from "./plugin-place.ts";
import type { SuiteRankArgs } from "./rank.ts";
import type { CaseReport, SuiteOrder } from "./run-cases.ts";
import { runRank } from "./run-rank.ts";
import { suiteMiddleware } from "./settings.ts";

export interface SuiteRun {
  readonly plugin: BackendPlugin;
  readonly worldSize: number;
  /** Where tensors are to be; host memory by default. */
  readonly memory?: SuiteMemory | undefined;
  readonly order: SuiteOrder;
  /** How to start processes; `"workers"` for ranks in Workers, `false` for ranks that share this thread. */
  readonly spawn: SuiteSpawn;
}

/** Where the ranks of the suite run. */
export type SuiteSpawn = Pick<SpawnOptions, "env" | "runtime" | "launcher"> | "workers" | false;

/** How a case went on all ranks together. */
export interface CaseResult {
  /** With its setting. */
  readonly name: string;
  readonly checks: number;
  /** What went wrong, by rank; empty if nothing. */
  readonly failures: readonly string[];
}

const SMOKE_LIMIT_MS = 90_000;
const FULL_LIMIT_MS = 20 * 60_000;

/** Runs cases of the suite with one number of ranks. Never rejects because of a case or a rank. */
export async function runSuite(run: SuiteRun): Promise<CaseResult[]> {
  const { reports, endings } = run.spawn === false ? await runInThread(run) : await runElsewhere(run, run.spawn);
  const { cases } = run.order;
  // Nothing else would report that a rank failed at the end of its default group, or crashed as it exited.
  const late = endings.flatMap((ending, rank) => {
    const hasRunAll = cases.every((name) => reports[rank]?.some((each) => each.name === name && !each.begins));
    return ending !== undefined && hasRunAll ? [`rank ${rank} did not end cleanly after all cases: ${ending}`] : [];
  });
  return cases.map((name) => {
    const results = reports.map((list) => list.findLast((each) => each.name === name && !each.begins));
    const failures = results.flatMap((result, rank) => {
      if (result === undefined) return [describeMissing(name, rank, reports[rank] ?? [], endings[rank])];
      return !result.begins && result.error !== undefined ? [`rank ${rank}: ${result.error}`] : [];
    });
    const checks = results.reduce((sum, result) => sum + (result?.begins === false ? result.checks : 0), 0);
    return { name, checks, failures: name === cases.at(-1) ? [...failures, ...late] : failures };
  });
}

interface Outcome {
  /** Reports of each rank. */
  readonly reports: readonly (readonly CaseReport[])[];
  /** How each rank ended, if not cleanly. */
  readonly endings: readonly (string | undefined)[];
}

async function runInThread({ plugin, worldSize, memory, order }: SuiteRun): Promise<Outcome> {
  const reports = Array.from({ length: worldSize }, (): CaseReport[] => []);
  const endings: (string | undefined)[] = [];
  const container = createContainer({ overrides: [plugin] });
  container.register(BACKEND_MIDDLEWARE, { useValue: suiteMiddleware });
  const timeout = order.sweep.full ? FULL_LIMIT_MS : SMOKE_LIMIT_MS;
  const body = ({ rank, store }: LocalRank): Promise<void> => {
    const init = { container, store, rank, worldSize, timeout };
    return runRank(order, {
      plugin,
      memory,
      place: { rank, worldSize },
      init,
      report: (each) => reports[rank]?.push(each),
    });
  };
  await localRanks(worldSize, body, { init: false, timeout }).catch((error: unknown) => {
    if (!(error instanceof LocalRanksError)) throw error;
    for (const failure of error.failures) endings[failure.rank] ??= String(failure.error);
  });
  return { reports, endings };
}

/** Runs the suite in processes or in Workers. */
async function runElsewhere(
  { plugin, worldSize, memory, order }: SuiteRun,
  spawn: Exclude<SuiteSpawn, false>,
): Promise<Outcome> {
  const place = placeOfPlugin(plugin);
  const args: SuiteRankArgs = { ...order, ...place, memory: sourceOfMemory(memory, plugin.name) };
  const file = new URL("./rank.ts", import.meta.url);
  const options = { args, failFast: true, timeout: order.sweep.full ? FULL_LIMIT_MS : SMOKE_LIMIT_MS };
  const outcomes: readonly Ended[] =
    spawn === "workers"
      ? await workerRanks(worldSize, file, options)
      : await spawnRanks(worldSize, file, { ...spawn, ...options });
  return {
    reports: outcomes.map(({ reports }) => reports as readonly CaseReport[]),
    endings: outcomes.map((each) => describeEnding(each, outcomes)),
  };
}

export type Ended = WorkerOutcome & Partial<Pick<RankOutcome, "signal" | "stderr">>;

/** How a rank ended, if not cleanly. */
export function describeEnding(ended: Ended, all: readonly Ended[]): string | undefined {
  const { exitCode, signal, hang, error, stderr = "" } = ended;
  if (hang !== undefined) return hang.text;
  if (error !== undefined) return error.message;
  if (exitCode === 0) return undefined;
  const cause = signal === "SIGTERM" && all.find((other) => other.exitCode !== 0 && other.signal !== "SIGTERM");
  if (cause) return `it was stopped because rank ${cause.rank} had ended`;
  return `it ended with ${signal ?? `exit code ${exitCode}`}: ${stderr.slice(-500) || "it wrote nothing to stderr"}`;
}

function describeMissing(
  name: string,
  rank: number,
  reports: readonly CaseReport[],
  ending: string | undefined,
): string {
  const open = reports.filter(
    (each) => each.begins && !reports.some((other) => !other.begins && other.name === each.name),
  );
  const last = open.at(-1) ?? reports.at(-1);
  const isHere = open.some((each) => each.name === name);
  const where = last === undefined ? "before the first case" : isHere ? "in this case" : `in "${last.name}"`;
  return `rank ${rank} did not finish: it stopped ${where}${ending === undefined ? "" : `; ${ending}`}`;
}
