import type { WorkerOutcome } from "bun-c10d/testing";
import { type Cell, endsJob, isSilent, nameOf } from "./cell.ts";
import { judge } from "./expectation.ts";
import type { Orders } from "./fixtures/rank.ts";
import type { Place } from "./place.ts";
import type { RankReport } from "./report.ts";
import { caseOf } from "./ways.ts";

/** Outcome of a cell. */
export interface CellResult {
  readonly cell: Cell;
  /** By rank; a rank that has exited has none. */
  readonly reports: readonly (RankReport | undefined)[];
  /** What is unexpected; empty if nothing is. */
  readonly problems: readonly string[];
}

const fixture = new URL("./fixtures/rank.ts", import.meta.url);
const JOB_MS = 30_000;
const CELL_MS = 6_000;

/** Runs cells and prints a line for each; skips, with a message, what this machine cannot run. */
export async function runCells(cells: readonly Cell[], print: (line: string) => void): Promise<CellResult[]> {
  const results: CellResult[] = [];
  for (const place of new Set(cells.map((cell) => cell.place))) {
    const reason = await place.whyNot();
    if (reason !== undefined) {
      print(`skip calls that differ, ${place.name}: ${reason}`);
      continue;
    }
    for (const job of jobsOf(cells.filter((cell) => cell.place === place))) {
      for (const result of await runJob(place, job)) {
        print(lineOf(result));
        results.push(result);
      }
    }
  }
  return results;
}

/**
 * Cells of the same world size share their processes, except those in which a process exits. Those that end by a
 * time-out come last, since they leave native ops behind that cannot be cancelled.
 */
function jobsOf(cells: readonly Cell[]): Cell[][] {
  const [quick = [], silent = []] = [false, true].map((isLate) =>
    cells.filter((cell) => !endsJob(cell) && isSilent(caseOf(cell.name)) === isLate),
  );
  const shared = Map.groupBy([...quick, ...silent], ({ worldSize }) => worldSize);
  return [...shared.values(), ...cells.filter(endsJob).map((cell) => [cell])];
}

async function runJob(place: Place, cells: readonly Cell[]): Promise<CellResult[]> {
  const [first] = cells;
  if (first === undefined) return [];
  const args: Orders = {
    backend: place.backend,
    endsJob: endsJob(first),
    cells: cells.map(({ name, mode, bytes, odd, timeoutMs }) => ({ name, mode, bytes, odd, timeoutMs })),
  };
  const timeout = JOB_MS + CELL_MS * cells.length;
  const outcomes = await place.run(first.worldSize, fixture, { args, timeout });
  return cells.map((cell, index) => {
    const reports = outcomes.map((outcome) => reportsOf(outcome).find((report) => report.index === index));
    const problems = judge(cell, reports);
    // A problem of a rank as a whole is reported with the cell at which it stopped, or with the last one.
    for (const outcome of outcomes) {
      const at = Math.min(reportsOf(outcome).length, cells.length - 1);
      const exits = endsJob(cell) && outcome.rank === cell.odd;
      const trouble = index === at && !exits ? troubleOf(outcome) : undefined;
      if (trouble !== undefined) problems.push(`rank ${outcome.rank}: ${trouble}`);
    }
    return { cell, reports, problems };
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

/** One line: the cell, the errors of the ranks, and what is wrong with them. */
export function lineOf({ cell, reports, problems }: CellResult): string {
  const kinds = reports.flatMap((report) => report?.ends ?? []).map((error) => error?.code ?? "no error");
  const ms = Math.max(0, ...reports.map((report) => report?.ms ?? 0));
  return [
    nameOf(cell).padEnd(90),
    [...new Set(kinds)].join(" ").padEnd(26),
    `${ms.toFixed(0)} ms`.padStart(8),
    ...problems.map((problem) => `\n    ! ${problem}`),
  ].join("  ");
}
