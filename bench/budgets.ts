/**
 * Measures what DESIGN.md sets budgets for, in short. The gate of a line is its goal plus what other load does on a
 * small machine; a line that is over its gate is measured once more before that counts.
 *
 *     bun bench/budgets.ts [--check]     with --check, a line over its gate is a failure
 */
import { parseArgs } from "node:util";
import { Field, type Figures, type Party } from "./gloo.ts";
import { torchPython } from "./harness/contender.ts";
import { median } from "./harness/samples.ts";
import { measureFirstAllReduce, measureImport } from "./import.ts";

interface Budget {
  readonly what: string;
  readonly unit: "ms" | "µs" | "×";
  readonly goal: number;
  readonly gate: number;
  measure(): Promise<number> | number;
}

const hasTorch = torchPython() !== undefined;
await using field = await Field.start([...(hasTorch ? (["torch"] as const) : []), "stock", "C++", "wait", "await"]);

/** What `party` took of all-reduces of 2 ranks, in relation to the yardstick. */
async function allReduce(bytes: number, rounds: number, yardstick: Party, party: Party): Promise<Figures> {
  const figures = (await field.compare("all-reduce", bytes, rounds, [yardstick, party])).get(party);
  if (figures === undefined) throw new Error(`${party} took no part`);
  return figures;
}

const overTorch = (size: string, bytes: number, rounds: number, goal: number, gate: number): Budget => ({
  what: `gloo wait() over torch.distributed, ${size}`,
  unit: "×",
  goal,
  gate,
  measure: async () => 1 / (await allReduce(bytes, rounds, "torch", "wait")).gain,
});

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
    what: "gloo wait() over libgloo's own all-reduce from C++, 4 B",
    unit: "×",
    goal: 1.1,
    gate: 1.35,
    measure: async () => 1 / (await allReduce(4, 30, "stock", "wait")).gain,
  },
  {
    what: "gloo wait() over libgloo's own all-reduce from C++, 16 MB",
    unit: "×",
    goal: 1.05,
    gate: 1.3,
    measure: async () => 1 / (await allReduce(2 ** 24, 12, "stock", "wait")).gain,
  },
  {
    what: "gloo wait() over the shim's own code from C++, 4 B",
    unit: "µs",
    goal: 1.5,
    gate: 20,
    measure: async () => (await allReduce(4, 30, "C++", "wait")).extra,
  },
  {
    what: "gloo await over wait(), 4 B",
    unit: "µs",
    goal: 15,
    gate: 60,
    measure: async () => (await allReduce(4, 30, "wait", "await")).extra,
  },
  ...(hasTorch
    ? [
        overTorch("4 B", 4, 6, 1, 1),
        overTorch("64 KB", 2 ** 16, 6, 1 / 1.4, 1),
        overTorch("16 MB", 2 ** 24, 6, 1 / 1.4, 1.2),
      ]
    : []),
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
if (!hasTorch) console.log("budget skip against torch.distributed: PyTorch is absent (./bootstrap torch)");
