import { printable } from "../../errors/index.ts";
import { areAwaited, missingAmong, type RankStatus } from "../../status/index.ts";
import { paragraph } from "../../trace/index.ts";
import { fittedTable } from "./fitted-table.ts";
import { LONG_MS, type RankRow, type Rates, rankRow, unknownRow } from "./rank-rows.ts";
import { jobLine, type WatchedJob } from "./watched-job.ts";

/** What `c10d top` shows at one moment. */
export interface TopView {
  readonly job: WatchedJob;
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

type Paint = (how: keyof typeof style, text: string) => string;

/** The lines above the ranks, and a line for each rank. */
export function topTable(
  view: TopView,
  { colours, width }: TopPaper,
): { readonly head: string[]; readonly body: string[] } {
  const { job, others } = view;
  const missing = missingAmong(job.ranks, LONG_MS);
  const known = job.ranks.map((status) => ({
    rank: status.rank,
    row: rankRow(status, missing.has(status), view.ratesOf(status)),
  }));
  const isAwaited = areAwaited(job.ranks, LONG_MS);
  const unknown = job.unknown.map((rank) => ({ rank, row: unknownRow(rank, isAwaited) }));
  const rows = [...known, ...unknown].sort((a, b) => a.rank - b.rank).map(({ row }) => row);
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
  if (others.length > 0) {
    const names = others.map(({ id, program }) => `${id} (${program})`).join(", ");
    head.push(...lines("dim", `also running: ${names}`));
  }
  if (rows.length === 0) return { head: [...head, "no rank has called initProcessGroup"], body: [] };
  const [names = "", ...body] = fittedTable(
    rows.map(({ cells }) => cells.map(printable)),
    width,
  );
  head.push("", paint("bold", names));
  return { head, body: body.map((text, i) => painted(rows[i], text, paint)) };
}

function painted(row: RankRow | undefined, text: string, paint: Paint): string {
  if (row?.isMissing) return paint("red", text);
  return (row?.waitedMs ?? 0) >= LONG_MS ? paint("yellow", text) : text;
}
