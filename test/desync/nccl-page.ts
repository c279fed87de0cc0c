import { PageTable } from "../docs/page-table.ts";
import { kindOf } from "./expectation.ts";
import { isOnNcclPage, type NcclCell, ncclPlaces } from "./nccl-cell.ts";
import type { NcclResult } from "./run-nccl-cells.ts";
import { caseNames, caseOf } from "./ways.ts";

export const ncclTable: PageTable = new PageTable(
  new URL("../../docs/desync.md", import.meta.url),
  "bun test/desync/table.ts nccl --write",
);

const UNSEEN = "not noticed";

/** What the page says of a cell: the error of the first rank that has one. */
export function ncclSaid({ reports }: Pick<NcclResult, "reports">): string {
  const errors = reports.flatMap((report) => report?.ends ?? []);
  const error = errors.find((each) => each !== undefined && each.code !== "INVALID_ARGUMENT");
  return error === undefined ? UNSEEN : `\`${kindOf(error)}\``;
}

/** A row for each case. */
export function ncclTableOf(results: readonly NcclResult[]): string {
  const lines = [`| in what | case | ${ncclPlaces.join(" | ")} |`, "|---|---|---|---|"];
  for (const name of caseNames) {
    const those = results.filter(({ cell }) => cell.name === name && isOnNcclPage(cell));
    if (those.length === 0) continue;
    const said = ncclPlaces.map((place) =>
      those
        .filter(({ cell }) => cell.place === place)
        .map(ncclSaid)
        .join(),
    );
    lines.push(`| ${[caseOf(name).way, name, ...said].join(" | ")} |`);
  }
  return `${lines.join("\n")}\n`;
}

/** What the page says about a case at a place. */
export function ncclRow({ name, place }: Pick<NcclCell, "name" | "place">): string | undefined {
  const start = `| ${caseOf(name).way} | ${name} | `;
  const line = ncclTable
    .read()
    .split("\n")
    .find((each) => each.startsWith(start));
  return line?.slice(start.length, -2).split(" | ")[ncclPlaces.indexOf(place)];
}
