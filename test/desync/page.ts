import { PageTable } from "../docs/page-table.ts";
import { type Cell, modes, SMALL } from "./cell.ts";
import { ADVICE, kindOf, withoutPlace } from "./expectation.ts";
import type { Place } from "./place.ts";
import type { CellResult } from "./run-cells.ts";
import { type CaseName, caseNames, caseOf } from "./ways.ts";

export const desyncTable: PageTable = new PageTable(
  new URL("../../docs/desync.md", import.meta.url),
  "bun test/desync/table.ts --write",
);

/** Stands for all places, if they have the same message. */
const ALL = "all";
const HEADER = "| in what | case | backend | error | message |\n|---|---|---|---|---|";

/** Whether the message of this cell is the one on the page: that of two ranks, of which the second differs. */
export function isOnPage({ worldSize, odd, bytes, mode }: Cell): boolean {
  return worldSize === 2 && odd === 1 && bytes <= SMALL && mode === modes[0];
}

/** Where a call was that timed out, and what the ranks were in that it waits for: these differ from run to run. */
const CIRCUMSTANCES = /(?:; called at \S+)?(?:; it waits for [\s\S]*)?$/;

/** Error and message that the page shows for a cell: those of the first rank that has one. */
export function saidIn({ reports }: CellResult): readonly [error: string, message: string] {
  const errors = reports.flatMap((report) => report?.ends ?? []);
  const error = errors.find((each) => each !== undefined && each.code !== "INVALID_ARGUMENT");
  return [
    kindOf(error),
    withoutPlace(error?.message ?? "")
      .replace(ADVICE, "")
      .replace(CIRCUMSTANCES, ""),
  ];
}

/** A row for each case and message. */
export function tableOf(results: readonly CellResult[]): string {
  const rows = caseNames.flatMap((name) => {
    const those = results.filter(({ cell }) => cell.name === name && isOnPage(cell));
    return Array.from(
      Map.groupBy(those, (result) => saidIn(result).join(" | ")),
      ([said, same]) => {
        const names = same.map(({ cell }) => cell.place.name).join(", ");
        return `| ${caseOf(name).way} | ${name} | ${same.length === those.length ? ALL : names} | ${said} |`;
      },
    );
  });
  return `${HEADER}\n${rows.join("\n")}\n`;
}

/** Cases and places that have a row on the page, each once. */
export function listedOnPage(): string[] {
  const listed = desyncTable
    .read()
    .split("\n")
    .slice(2)
    .filter((line) => line !== "")
    .flatMap((line) => {
      const [, , name = "", where = ""] = line.split("|").map((part) => part.trim());
      return where === ALL ? [`${name} | ${ALL}`] : where.split(", ").map((place) => `${name} | ${place}`);
    });
  return [...new Set(listed)];
}

/** What the page says about a case at a place: error and message. */
export function rowOnPage(name: CaseName, place: Place): readonly [error: string, message: string] | undefined {
  const start = `| ${caseOf(name).way} | ${name} | `;
  for (const line of desyncTable.read().split("\n")) {
    if (!line.startsWith(start)) continue;
    const [where = "", error = "", message = ""] = line.slice(start.length, -2).split(" | ");
    if (where === ALL || where.split(", ").includes(place.name)) return [error, message];
  }
  return undefined;
}
