/**
 * Runs the whole fault matrix of the backends that are named, which takes a quarter of an hour each, and prints their
 * tables of docs/faults.md; `--write` puts them on the page.
 */
import { allCells, backends } from "./cell.ts";
import { faultsTables, tableOf } from "./page.ts";
import { runMatrix } from "./run-matrix.ts";

const wanted = backends.filter((backend) => process.argv.includes(backend));
for (const backend of wanted.length > 0 ? wanted : backends) {
  const results = await runMatrix(allCells(backend), console.error);
  const table = tableOf(results);
  if (process.argv.includes("--write")) faultsTables[backend].write(table);
  else console.log(table);
  if (results.some(({ problems }) => problems.length > 0)) process.exitCode = 1;
}
