import { printable } from "../../errors/index.ts";
import { areAwaited, missingAmong, type RankStatus } from "../../status/index.ts";
import { paragraph } from "../../trace/index.ts";
import { LONG_MS, type RankRow, rankRow, unknownRow } from "../ranks/rank-row.ts";
import type { Rates } from "../ranks/rates.ts";
import { fittedTable } from "./fitted-table.ts";
import { jobLine, type WatchedJob } from "./watched-job.ts";

/** What `c10d top` shows at one moment. */
export interface TopView {
  readonly job: WatchedJob;
  /** Other jobs that are running here and that the user may have meant. */
  readonly others: readonly WatchedJob[];
  readonly ratesOf: (status: RankStatus) => Rates | undefined;
}

/** What {@link topTable} writes on. */
export interface TopPaper {
  readonly colours: boolean;
  /** Columns; Infinity where lines may have any length. */
  readonly width: number;
}

const style = {
  bold: (text: string) => `\x1b[1m${text}\x1b[22m`,
  dim: (text: string) => `\x1b[2m${text}\x1b[22m`,
  red: (text: string) => `\x1b[31m${text}\x1b[39m`,
  yellow: (text: string) => `\x1b[33m${text}\x1b[39m`,
} as const;

/** Also where lines may have any length. */
const MAX_OTHERS_WIDTH = 120;

type Paint = (how: keyof typeof style, text: string) => string;

/** The lines above the ranks, and a line for each rank. */
export function topTable(
  view: TopView,
  { colours, width }: TopPaper,
): { readonly head: string[]; readonly body: string[] } {
  const { job, others } = view;
  const missing = missingAmong(job.ranks, LONG_MS);
  const known = job.ranks.map((status) => rankRow(status, missing.has(status), view.ratesOf(status)));
  const isAwaited = areAwaited(job.ranks, LONG_MS);
  const unknown = job.unknown.map((rank) => unknownRow(rank, isAwaited));
  const rows = [...known, ...unknown].sort((a, b) => a.rank - b.rank);
  const paint: Paint = (how, text) => (colours ? style[how](text) : text);
  const lines = (how: keyof typeof style, text: string) =>
    paragraph(printable(text), width)
      .split("\n")
      .map((line) => paint(how, line));
  const head = lines("bold", `c10d top: job ${jobLine(job)}`);
  const late = rows.filter(({ isMissing }) => isMissing).length;
  if (late > 0) {
    const text = `${late} of ${rows.length} ranks here ${late === 1 ? "has" : "have"} not called what others wait in (!)`;
    head.push(...lines("red", text));
  }
  const failed = rows.filter(({ hasFailed }) => hasFailed).length;
  if (failed > 0) {
    const what = failed === 1 ? "an op has" : "ops have";
    head.push(...lines("red", `${what} failed on ${failed} of ${rows.length} ranks here (×)`));
  }
  if (others.length > 0) head.push(paint("dim", othersLine(others, width)));
  if (rows.length === 0) return { head: [...head, "no rank has called initProcessGroup"], body: [] };
  const [names = "", ...body] = fittedTable(
    rows.map((row) => cellsOf(row).map(printable)),
    width,
  );
  head.push("", paint("bold", names));
  return { head, body: body.map((text, i) => painted(rows[i], text, paint)) };
}

/** The ids of other jobs, as many as there is room for in one line, and how many more there are. */
function othersLine(others: readonly WatchedJob[], width: number): string {
  for (let named = others.length; named > 0; named--) {
    const names = others.slice(0, named).map(({ id, program }) => `${id} (${program})`);
    const more = others.length - named;
    const line = printable(`also running: ${names.join(", ")}${more > 0 ? ` and ${more} more` : ""}`);
    if (Bun.stringWidth(line) <= Math.min(width, MAX_OTHERS_WIDTH)) return line;
  }
  return `and ${others.length} other ${others.length === 1 ? "job" : "jobs"}`;
}

/** In the order of the columns. */
function cellsOf(row: RankRow): readonly string[] {
  const { rank, pid, state, op, since, opsPerSecond, bytesPerSecond, callSite, isMissing, hasFailed } = row;
  const mark = isMissing ? "!" : hasFailed ? "×" : "";
  return [mark, String(rank), pid, state, op, since, opsPerSecond, bytesPerSecond, callSite];
}

function painted(row: RankRow | undefined, text: string, paint: Paint): string {
  if (row?.isMissing || row?.hasFailed) return paint("red", text);
  return (row?.waitedMs ?? 0) >= LONG_MS ? paint("yellow", text) : text;
}
