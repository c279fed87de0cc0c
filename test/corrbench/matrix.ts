/**
 * Runs the programs of MPI-CorrBench: prints how each ends, and exits with code 1 if anything is unexpected.
 * `bun test/corrbench/matrix.ts [part of a run's name …]`
 */
import { allCells, nameOfCell } from "./cell.ts";
import { runPrograms } from "./run-programs.ts";

const wanted = process.argv.slice(2);
const cells = allCells().filter((cell) => wanted.every((part) => nameOfCell(cell).includes(part)));
const results = await runPrograms(cells, console.log);
const bad = results.filter(({ problems }) => problems.length > 0).length;
console.log(`${results.length} runs, ${bad} with problems`);
process.exitCode = bad > 0 ? 1 : 0;
