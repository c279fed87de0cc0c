import { spawnRanks } from "bun-c10d/testing";
import { emulatorEnv } from "../../src/backends/nccl/fixtures/emulator.ts";
import type { Orders } from "./fixtures/rank.ts";
import { endsJob, isDetail, type NcclCell, nameOfNccl, TIMEOUT_MS } from "./nccl-cell.ts";
import { judgeNccl } from "./nccl-expectation.ts";
import type { RankReport } from "./report.ts";

/** Outcome of a cell. */
export interface NcclResult {
  readonly cell: NcclCell;
  /** By rank; a rank that has exited has none. */
  readonly reports: readonly (RankReport | undefined)[];
  /** What is unexpected; empty if nothing is. */
  readonly problems: readonly string[];
}

const fixture = new URL("./fixtures/rank.ts", import.meta.url);
const JOB_MS = 30_000;
const CELL_MS = 6_000;

/** Runs cells, those of one place and world size in the same processes, and prints a line for each. */
export async function runNcclCells(cells: readonly NcclCell[], print: (line: string) => void): Promise<NcclResult[]> {
  const results: NcclResult[] = [];
  for (const job of jobsOf(cells)) {
    for (const result of await runJob(job)) {
      print(lineOf(result));
      results.push(result);
    }
  }
  return results;
}

function jobsOf(cells: readonly NcclCell[]): NcclCell[][] {
  const shared = Map.groupBy(
    cells.filter((cell) => !endsJob(cell)),
    ({ place, worldSize }) => `${place} ${worldSize}`,
  );
  return [...shared.values(), ...cells.filter(endsJob).map((cell) => [cell])];
}

async function runJob(cells: readonly NcclCell[]): Promise<NcclResult[]> {
  const [first] = cells;
  if (first === undefined) return [];
  const args: Orders = {
    backend: "nccl",
    onDevice: true,
    isCompared: false,
    endsJob: endsJob(first),
    cells: cells.map(({ name, mode, bytes, odd }) => ({ name, mode, bytes, odd, timeoutMs: TIMEOUT_MS })),
  };
  const env = { ...emulatorEnv(), ...(isDetail(first) && { TORCH_DISTRIBUTED_DEBUG: "DETAIL" }) };
  const timeout = JOB_MS + CELL_MS * cells.length;
  const outcomes = await spawnRanks(first.worldSize, fixture, { args, env, timeout });
  return cells.map((cell, index) => {
    const ofRank = outcomes.map(({ reports }) => reports as readonly RankReport[]);
    const reports = ofRank.map((list) => list.find((report) => report.index === index));
    const problems = judgeNccl(cell, reports);
    for (const { rank, error, exitCode, hung, stderr } of outcomes) {
      const at = Math.min(ofRank[rank]?.length ?? 0, cells.length - 1);
      if (index !== at || (endsJob(cell) && rank === cell.odd)) continue;
      if (error !== undefined) problems.push(`rank ${rank}: ${error.stack ?? error.message}`);
      else if (hung) problems.push(`rank ${rank} hung`);
      else if (exitCode !== 0) problems.push(`rank ${rank}: exit code ${exitCode}: ${stderr.slice(0, 500)}`);
    }
    return { cell, reports, problems };
  });
}

function lineOf({ cell, reports, problems }: NcclResult): string {
  const kinds = reports.flatMap((report) => report?.ends ?? []).map((error) => error?.code ?? "no error");
  const ms = Math.max(0, ...reports.map((report) => report?.ms ?? 0));
  return [
    nameOfNccl(cell).padEnd(95),
    [...new Set(kinds)].join(" ").padEnd(20),
    `${ms.toFixed(0)} ms`.padStart(8),
    ...problems.map((problem) => `\n    ! ${problem}`),
  ].join("  ");
}
