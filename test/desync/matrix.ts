/**
 * The matrix of calls that differ: prints what the ranks see in every cell, and exits with code 1 if anything is
 * unexpected. `bun test/desync/matrix.ts [part of a cell's name …]`
 */
import { allCells, nameOf } from "./cell.ts";
import { allNcclCells, nameOfNccl } from "./nccl-cell.ts";
import { runCells } from "./run-cells.ts";
import { runNcclCells } from "./run-nccl-cells.ts";

const wanted = process.argv.slice(2);
const isWanted = (name: string): boolean => wanted.every((part) => name.includes(part));
const cells = allCells().filter((cell) => isWanted(nameOf(cell)));
const ncclCells = allNcclCells().filter((cell) => isWanted(nameOfNccl(cell)));
const results = [...(await runCells(cells, console.log)), ...(await runNcclCells(ncclCells, console.log))];
const bad = results.filter(({ problems }) => problems.length > 0).length;
console.log(`${results.length} cells, ${bad} with problems`);
process.exitCode = bad > 0 ? 1 : 0;
