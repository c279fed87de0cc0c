import type { WorkerOutcome } from "bun-c10d/testing";
import type { Place } from "../desync/place.ts";
import { type Cell, isAlone, nameOfCell, timeoutOf } from "./cell.ts";
import type { Orders } from "./fixtures/rank.ts";
import { type Judgement, judge } from "./judge.ts";
import type { RankReport } from "./report.ts";

/** Outcome of a run. */
export interface CellResult extends Judgement {
  readonly cell: Cell;
  /** By rank; a rank that did not complete has none. */
  readonly reports: readonly (RankReport | undefined)[];
}

const fixture = new URL("./fixtures/rank.ts", import.meta.url);
const JOB_MS = 30_000;
const CELL_MS = 6_000;

/** Runs programs, those of different places at the same time, since they wait most of the time. */
export async function runPrograms(cells: readonly Cell[], print: (line: string) => void): Promise<CellResult[]> {
  const byPlace = Map.groupBy(cells, ({ place }) => place);
  const results = await Promise.all(Array.from(byPlace, ([place, those]) => runAt(place, those, print)));
  return results.flat();
}

async function runAt(place: Place, cells: readonly Cell[], print: (line: string) => void): Promise<CellResult[]> {
  const reason = await place.whyNot();
  if (reason !== undefined) {
    print(`skip programs of MPI-CorrBench, ${place.name}: ${reason}`);
    return [];
  }
  const results: CellResult[] = [];
  for (const job of jobsOf(cells)) {
    for (const result of await runJob(place, job)) {
      print(lineOf(result));
      results.push(result);
    }
  }
  return results;
}

/**
 * Programs of the same world size share their processes. Those that end by a time-out come last, since they leave
 * native ops behind that cannot be cancelled.
 */
function jobsOf(cells: readonly Cell[]): Cell[][] {
  const shared = cells.filter((cell) => !isAlone(cell)).sort((a, b) => timeoutOf(b) - timeoutOf(a));
  return [
    ...Map.groupBy(shared, ({ worldSize }) => worldSize).values(),
    ...cells.filter(isAlone).map((cell) => [cell]),
  ];
}

async function runJob(place: Place, cells: readonly Cell[]): Promise<CellResult[]> {
  const [first] = cells;
  if (first === undefined) return [];
  const args: Orders = {
    backend: place.backend,
    programs: cells.map((cell) => ({ program: cell.program, mode: cell.mode, timeoutMs: timeoutOf(cell) })),
  };
  const timeout = JOB_MS + CELL_MS * cells.length;
  const outcomes = await place.run(first.worldSize, fixture, { args, timeout });
  return cells.map((cell, index) => {
    const reports = outcomes.map((outcome) => reportsOf(outcome).find((report) => report.index === index));
    const { outcome, problems } = judge(cell, reports);
    // A problem of a rank as a whole is reported with the program at which it stopped, or with the last one.
    const troubles = outcomes.flatMap((rank) => {
      const at = Math.min(reportsOf(rank).length, cells.length - 1);
      const trouble = index === at ? troubleOf(rank) : undefined;
      return trouble === undefined ? [] : [`rank ${rank.rank}: ${trouble}`];
    });
    return { cell, reports, outcome, problems: [...problems, ...troubles] };
  });
}

function reportsOf({ reports }: WorkerOutcome): readonly RankReport[] {
  return reports as readonly RankReport[];
}

function troubleOf(outcome: WorkerOutcome): string | undefined {
  const { error, exitCode, hung } = outcome;
  if (error !== undefined) return error.stack ?? error.message;
  if (hung) return "hung";
  const said = "stderr" in outcome ? String(outcome.stderr).slice(0, 500) : "";
  return exitCode === 0 ? undefined : `exit code ${exitCode}: ${said}`;
}

/** One line: the run, its outcome, and what is unexpected. */
export function lineOf({ cell, reports, outcome, problems }: CellResult): string {
  const ms = Math.max(0, ...reports.map((report) => report?.ms ?? 0));
  return [
    nameOfCell(cell).padEnd(80),
    outcome.padEnd(12),
    `${ms.toFixed(0)} ms`.padStart(8),
    ...problems.map((problem) => `\n    ! ${problem}`),
  ].join("  ");
}
