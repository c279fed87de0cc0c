/**
 * Runs the whole fault matrix, which takes a quarter of an hour, and prints the table of docs/faults.md; `--write` puts
 * it on the page.
 */
import { allCells } from "./cell.ts";
import { faultsTable, tableOf } from "./page.ts";
import { runMatrix } from "./run-matrix.ts";

const results = await runMatrix(allCells(), console.error);
const table = tableOf(results);
if (process.argv.includes("--write")) faultsTable.write(table);
else console.log(table);
process.exitCode = results.some(({ problems }) => problems.length > 0) ? 1 : 0;
