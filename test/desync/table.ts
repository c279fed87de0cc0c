/**
 * Runs the cells whose messages are in docs/desync.md, and prints its table; `--write` puts it on the page. With `nccl`
 * that is the table of nccl, else that of the other backends.
 */
import { allCells } from "./cell.ts";
import { allNcclCells, isOnNcclPage } from "./nccl-cell.ts";
import { ncclTable, ncclTableOf } from "./nccl-page.ts";
import { desyncTable, isOnPage, tableOf } from "./page.ts";
import { runCells } from "./run-cells.ts";
import { runNcclCells } from "./run-nccl-cells.ts";

async function ofNccl() {
  const results = await runNcclCells(allNcclCells().filter(isOnNcclPage), console.error);
  return { results, table: ncclTableOf(results), page: ncclTable };
}

async function ofOthers() {
  const results = await runCells(allCells().filter(isOnPage), console.error);
  return { results, table: tableOf(results), page: desyncTable };
}

const { results, table, page } = await (process.argv.includes("nccl") ? ofNccl() : ofOthers());
if (process.argv.includes("--write")) page.write(table);
else console.log(table);
process.exitCode = results.some(({ problems }) => problems.length > 0) ? 1 : 0;
