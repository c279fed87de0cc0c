import { DEFAULT_GROUP } from "../../errors/index.ts";
import { callSiteText, leastSiteWidth } from "./call-site-text.ts";

const columnNames = ["", "RANK", "PID", "STATE", "OP", "FOR", "OPS/S", "BYTES/S", "CALLED AT"] as const;
/** Columns of numbers, which are aligned on the right. */
const numeric: ReadonlySet<number> = new Set([1, 2, 5, 6, 7]);

const GAP = "  ";
const [PID, STATE, OP, OPS, BYTES, SITE] = [2, 3, 4, 6, 7, 8] as const;

/** Cells of a table, a row for each rank, and which of its columns are shown. */
interface Table {
  readonly rows: readonly (readonly string[])[];
  readonly columns: readonly number[];
}

/** How a table becomes narrower, the first of them first. Where a rank is and what it waits in is left to the last. */
const reductions: readonly ((table: Table) => Table)[] = [
  (table) => without(PID, table),
  ({ rows, columns }) => ({ rows: rows.map((cells) => cells.with(OP, shortOp(cells[OP] ?? ""))), columns }),
  (table) => without(OPS, table),
  (table) => without(BYTES, table),
  (table) => without(STATE, table),
];

/** The text of an op in fewer columns: the default group is not named. */
function shortOp(text: string): string {
  return text.replace(` on group "${DEFAULT_GROUP}"`, "").replace(/ on group (?=")/, " on ");
}

/** Lines of a table of ranks, the names of the columns first, in at most `width` columns as far as that is possible. */
export function fittedTable(rows: readonly (readonly string[])[], width: number): readonly string[] {
  let table: Table = { rows, columns: columnNames.map((_, i) => i) };
  for (const reduce of reductions) {
    if (roomForSites(table, width) >= leastSites(table)) break;
    table = reduce(table);
  }
  const room = Math.max(leastSites(table), roomForSites(table, width));
  if (room < columnNames[SITE].length) table = without(SITE, table);
  const fitted = table.rows.map((cells) => cells.with(SITE, callSiteText(cells[SITE] ?? "", room)));
  const all = [columnNames, ...fitted];
  const widths = columnNames.map((_, i) => widest(all, i));
  return all.map((cells) =>
    table.columns
      .map((i) => pad(cells[i] ?? "", widths[i] ?? 0, numeric.has(i)))
      .join(GAP)
      .trimEnd(),
  );
}

function without(column: number, { rows, columns }: Table): Table {
  return { rows, columns: columns.filter((each) => each !== column) };
}

/** Columns that are left for the call sites. */
function roomForSites({ rows, columns }: Table, width: number): number {
  const others = columns.filter((column) => column !== SITE);
  return width - others.reduce((sum, i) => sum + widest([columnNames, ...rows], i) + GAP.length, 0);
}

/** None if there are no call sites: the column is then not needed. */
function leastSites({ rows }: Table): number {
  const least = rows.reduce((most, cells) => Math.max(most, leastSiteWidth(cells[SITE] ?? "")), 0);
  return least === 0 ? 0 : Math.max(least, columnNames[SITE].length);
}

function widest(rows: readonly (readonly string[])[], column: number): number {
  return rows.reduce((most, cells) => Math.max(most, Bun.stringWidth(cells[column] ?? "")), 0);
}

function pad(cell: string, to: number, atStart: boolean): string {
  const space = " ".repeat(Math.max(0, to - Bun.stringWidth(cell)));
  return atStart ? space + cell : cell + space;
}
