// Times and bandwidths by nccl-tests' definitions, one rank, and two if two can be had, against PyTorch on the same
// devices in the order A B A B.
import { bandwidthTable, type Measurement, meanOf, timingsOfBun, timingsOfTorch } from "../bandwidth.ts";
import { runPart, Skipped } from "../part.ts";
import type { Timing } from "../timing.ts";

/** 4 bytes to 256 MB, eightfold. */
const sizes = Array.from({ length: 10 }, (_, i) => Math.min(2 ** 28, 4 * 8 ** i));

await runPart(async ({ devices = [], short, emulator, python, torchOnGpu, twoRanks }) => {
  if (devices.length === 0) throw new Skipped("no device");
  const lines: string[] = [];
  const tables: string[] = [];
  const figures: unknown[] = [];
  const torch = torchOnGpu === undefined ? undefined : python;
  if (torch === undefined) lines.push("there is no PyTorch that sees a GPU: nothing to compare with");
  if (emulator) lines.push("on an emulator: the times mean nothing");
  const common = { seconds: short ? 0.5 : 4, limitMs: short ? 25_000 : 22_000 };
  const largest = short ? 2 ** 14 : 2 ** 28;
  const runsOfEach = torch === undefined || short ? 1 : 2;
  const plans: Measurement[] = [
    { ...common, devices: ["cuda:0"], env: {}, sizes: sizes.filter((each) => each <= largest) },
  ];
  // Two ranks of one GPU share its memory and, over sockets, the loopback interface.
  if (twoRanks !== undefined) {
    plans.push({ ...common, ...twoRanks, sizes: sizes.filter((each) => each <= Math.min(largest, 2 ** 26)) });
  }
  for (const plan of plans) {
    const runs: { readonly bun: (readonly Timing[])[]; readonly torch: (readonly Timing[])[] } = { bun: [], torch: [] };
    for (let i = 0; i < runsOfEach; i++) {
      runs.bun.push(await timingsOfBun(plan));
      if (torch !== undefined) runs.torch.push(await timingsOfTorch(torch, plan));
    }
    const ranks = plan.devices.length;
    figures.push({ ranks, env: plan.env, ...runs });
    const title = ranks === 1 ? "One rank (no bus: busbw of all but broadcast is 0 by definition)" : `${ranks} ranks`;
    tables.push(`${title}:\n\n${bandwidthTable(meanOf(runs.bun), meanOf(runs.torch), ranks)}`);
  }
  const order = torch === undefined ? "" : `, ${Array(runsOfEach).fill("Bun, PyTorch").join(", ")}`;
  lines.push(`${figures.length} worlds measured${order}`);
  return { outcome: "passed", lines, figures, tables };
});
