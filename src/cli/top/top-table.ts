import { missingAmong, type RankStatus } from "../../status/index.ts";
import { columnNames, LONG_MS, numeric, type RankRow, type Rates, rankRow, unknownRow } from "./rank-rows.ts";
import { jobLine, type WatchedJob } from "./watched-job.ts";

/** What `c10d top` shows at one moment. */
export interface TopView {
  readonly job: WatchedJob;
  readonly others: readonly WatchedJob[];
  readonly ratesOf: (status: RankStatus) => Rates | undefined;
}

const style = {
  bold: (text: string) => `\x1b[1m${text}\x1b[22m`,
  dim: (text: string) => `\x1b[2m${text}\x1b[22m`,
  red: (text: string) => `\x1b[31m${text}\x1b[39m`,
  yellow: (text: string) => `\x1b[33m${text}\x1b[39m`,
} as const;

/** The lines above the ranks, and a line for each rank. */
export function topTable(view: TopView, colours: boolean): { readonly head: string[]; readonly body: string[] } {
  const { job, others } = view;
  const missing = missingAmong(job.ranks, LONG_MS);
  const known = job.ranks.map((status) => ({
    rank: status.rank,
    row: rankRow(status, missing.has(status), view.ratesOf(status)),
  }));
  const unknown = job.unknown.map((rank) => ({ rank, row: unknownRow(rank) }));
  const rows = [...known, ...unknown].sort((a, b) => a.rank - b.rank).map(({ row }) => row);
  const widths = columnNames.map((name, i) => Math.max(name.length, ...rows.map(({ cells }) => width(cells[i]))));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => pad(cell, widths[i] ?? 0, numeric.has(i)))
      .join("  ")
      .trimEnd();
  const paint = (how: keyof typeof style, text: string) => (colours ? style[how](text) : text);
  const head = [paint("bold", `c10d top: job ${jobLine(job)}`)];
  if (missing.size > 0)
    head.push(
      paint(
        "red",
        `${missing.size} of ${job.ranks.length} ranks here ${missing.size === 1 ? "has" : "have"} not called the collective that others wait in (!)`,
      ),
    );
  if (others.length > 0)
    head.push(paint("dim", `also running: ${others.map(({ id, program }) => `${id} (${program})`).join(", ")}`));
  if (rows.length === 0) head.push("no rank has a process group");
  else head.push("", paint("bold", line(columnNames)));
  return { head, body: rows.map((row) => painted(row, line(row.cells), paint)) };
}

function painted(
  { isMissing, waitedMs }: RankRow,
  text: string,
  paint: (how: keyof typeof style, text: string) => string,
): string {
  if (isMissing) return paint("red", text);
  return waitedMs >= LONG_MS ? paint("yellow", text) : text;
}

const width = (cell: string | undefined): number => Bun.stringWidth(cell ?? "");

function pad(cell: string, to: number, atStart: boolean): string {
  const space = " ".repeat(Math.max(0, to - width(cell)));
  return atStart ? space + cell : cell + space;
}
