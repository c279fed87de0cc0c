/**
 * Measures what DESIGN.md sets budgets for, in short. The gate of a line is its goal plus what other load does on a
 * small machine; a line that is over its gate is measured once more before that counts.
 *
 *     bun bench/budgets.ts [--check]     with --check, a line over its gate is a failure
 */
import { parseArgs } from "node:util";
import { compare } from "./allreduce.ts";
import { Contender } from "./harness/contender.ts";
import { median } from "./harness/samples.ts";
import { measureFirstAllReduce, measureImport } from "./import.ts";

interface Budget {
  readonly what: string;
  readonly unit: "ms" | "µs" | "×";
  readonly goal: number;
  readonly gate: number;
  measure(): Promise<number> | number;
}

await using bun = await Contender.bun();
await using cpp = await Contender.cpp();

const budgets: readonly Budget[] = [
  {
    what: 'import "bun-c10d" over bare Bun',
    unit: "ms",
    goal: 40,
    gate: 60,
    measure: () => measureImport(9).extra,
  },
  {
    what: "first all-reduce of 2 ranks from process start",
    unit: "ms",
    goal: 250,
    gate: 500,
    measure: async () => median(await measureFirstAllReduce(5)),
  },
  {
    what: "gloo wait() over C++, 4 B",
    unit: "×",
    goal: 1.1,
    gate: 1.35,
    measure: async () => (await compare({ bun, cpp }, 4, 45)).waitRatio,
  },
  {
    what: "gloo wait() over C++, 16 MB",
    unit: "×",
    goal: 1.05,
    gate: 1.3,
    measure: async () => (await compare({ bun, cpp }, 2 ** 24, 12)).waitRatio,
  },
  {
    what: "gloo await over wait(), 4 B",
    unit: "µs",
    goal: 15,
    gate: 60,
    measure: async () => (await compare({ bun, cpp }, 4, 45)).awaitExtra,
  },
];

const { values } = parseArgs({ options: { check: { type: "boolean", default: false } } });
for (const { what, unit, goal, gate, measure } of budgets) {
  let figure = await measure();
  if (figure > gate) figure = await measure();
  const show = (value: number): string => (unit === "×" ? `${value.toFixed(2)} ×` : `${value.toFixed(1)} ${unit}`);
  const verdict = figure > gate ? "FAIL" : "PASS";
  console.log(`budget ${verdict} ${what}: ${show(figure)} (goal ${show(goal)}, gate ${show(gate)})`);
  if (verdict === "FAIL" && values.check) process.exitCode = 1;
}
