/**
 * The fault matrix: prints what the survivors see for every fault × op × mode × size × world size, and exits with code
 * 1 if anything is unexpected. `bun test/faults/matrix.ts [part of a cell's name …]`
 */
import { allCells, backends, nameOf } from "./cell.ts";
import { runMatrix } from "./run-matrix.ts";

const wanted = process.argv.slice(2);
const cells = backends.flatMap(allCells).filter((cell) => wanted.every((part) => nameOf(cell).includes(part)));
const results = await runMatrix(cells, console.log);
process.exitCode = results.some(({ problems }) => problems.length > 0) ? 1 : 0;
