/** Runs the cells whose messages are in docs/desync.md, and prints its table; `--write` puts it on the page. */
import { allCells } from "./cell.ts";
import { desyncTable, isOnPage, tableOf } from "./page.ts";
import { runCells } from "./run-cells.ts";

const results = await runCells(allCells().filter(isOnPage), console.error);
const table = tableOf(results);
if (process.argv.includes("--write")) desyncTable.write(table);
else console.log(table);
process.exitCode = results.some(({ problems }) => problems.length > 0) ? 1 : 0;
