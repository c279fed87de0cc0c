import { TwoHosts } from "../multi-host/two-hosts.ts";
import type { Cell } from "./cell.ts";
import { type CellResult, lineOf, runCell } from "./run-cell.ts";

/** Runs cells one by one and prints a line for each; skips, with a message, what this machine cannot run. */
export async function runMatrix(cells: readonly Cell[], print: (line: string) => void): Promise<CellResult[]> {
  const impossible = cells.some(({ fault }) => fault === "cut") ? await TwoHosts.impossible() : undefined;
  if (impossible !== undefined) print(`skip cut networks, no network namespaces: ${impossible}`);
  const possible = impossible === undefined ? cells : cells.filter(({ fault }) => fault !== "cut");
  await using hosts = possible.some(({ fault }) => fault === "cut") ? await TwoHosts.make() : undefined;
  const results: CellResult[] = [];
  for (const cell of possible) {
    const result = await runCell(cell, hosts);
    print(lineOf(result));
    results.push(result);
  }
  const bad = results.filter(({ problems }) => problems.length > 0).length;
  print(`${results.length} cells, ${bad} with problems`);
  return results;
}
