/**
 * The fault matrix: prints what the survivors see for every fault × op × mode × size × world size, and ends with code 1
 * if anything is not as it should be. `bun test/faults/matrix.ts [part of a cell's name …]`
 */
import { allCells, nameOf } from "./cell.ts";
import { lineOf, runCell } from "./run-cell.ts";

const wanted = process.argv.slice(2);
const cells = allCells().filter((cell) => wanted.every((part) => nameOf(cell).includes(part)));
let bad = 0;
for (const cell of cells) {
  const result = await runCell(cell);
  if (result.problems.length > 0) bad++;
  console.log(lineOf(result));
}
console.log(`${cells.length} cells, ${bad} with problems`);
process.exitCode = bad > 0 ? 1 : 0;
