/** Runs all programs of MPI-CorrBench and prints the tables of docs/corrbench.md; `--write` puts them on the page. */
import { allCells } from "./cell.ts";
import { corrbenchTable, tableOf } from "./page.ts";
import { runPrograms } from "./run-programs.ts";

const results = await runPrograms(allCells(), console.error);
const table = tableOf(results);
if (process.argv.includes("--write")) corrbenchTable.write(table);
else console.log(table);
process.exitCode = results.some(({ problems }) => problems.length > 0) ? 1 : 0;
