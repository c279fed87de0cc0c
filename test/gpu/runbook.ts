// runbook.ts --out DIR [--emulator] [--short] [--only PART,…]: runs the parts one after the other, each in a process of
// its own with a limit of its own, and writes report.json, report.md and log.txt. A part that fails stops no other one.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { lastLines, runChild } from "./children.ts";
import { emulatorEnvironment } from "./emulator.ts";
import type { Facts, PartReport } from "./part.ts";
import { markdown, type PartResult, summary } from "./report.ts";

interface PlannedPart {
  readonly name: string;
  readonly title: string;
  readonly limitSeconds: number;
}

/** In this order, so that what cannot be had elsewhere comes before the figures. */
const planned: readonly PlannedPart[] = [
  { name: "machine", title: "Machine", limitSeconds: 80 },
  { name: "probe", title: "What the backend finds", limitSeconds: 20 },
  { name: "conformance", title: "Conformance suite, one rank", limitSeconds: 120 },
  { name: "two-ranks", title: "Two ranks", limitSeconds: 80 },
  { name: "mixed", title: "A communicator of PyTorch and Bun", limitSeconds: 60 },
  { name: "stress", title: "Streams and aborts", limitSeconds: 75 },
  { name: "bandwidth", title: "Bandwidth beside PyTorch's", limitSeconds: 110 },
  { name: "conformance-two", title: "Conformance suite, two ranks", limitSeconds: 120 },
];
const TOTAL_SECONDS = 460;

const { values } = parseArgs({
  options: {
    caller: { type: "string", default: process.cwd() },
    out: { type: "string", default: "build/gpu-report" },
    emulator: { type: "boolean", default: false },
    short: { type: "boolean", default: false },
    only: { type: "string" },
  },
});

/** What the other parts have to know. */
const always = ["machine", "probe"];
const only = values.only?.split(",");
const unknown = only?.find((name) => !planned.some((part) => part.name === name));
if (unknown !== undefined) {
  console.error(`no part "${unknown}": the parts are ${planned.map(({ name }) => name).join(", ")}`);
  process.exit(2);
}
const out = resolve(values.caller, values.out);
mkdirSync(out, { recursive: true });
const folder = mkdtempSync(join(tmpdir(), "c10d-gpu-"));
const began = Date.now();
const secondsSince = (start: number) => (Date.now() - start) / 1000;

let facts: Facts = { emulator: values.emulator, short: values.short };
const results: PartResult[] = [];
const logs: string[] = [];

/** Environment of a part. Unless the user has named a library, it is PyTorch's, so that both can use it. */
function environment(): Record<string, string> {
  if (facts.emulator) return emulatorEnvironment();
  const debug = process.env.NCCL_DEBUG ?? "WARN";
  if (facts.library === undefined || process.env.C10D_NCCL_LIBRARY) return { NCCL_DEBUG: debug };
  return { NCCL_DEBUG: debug, C10D_NCCL_LIBRARY: facts.library };
}

async function run({ name, title, limitSeconds }: PlannedPart): Promise<PartResult> {
  const left = TOTAL_SECONDS - secondsSince(began);
  if (left < 5) {
    return { name, title, seconds: 0, outcome: "skipped", lines: [`the ${TOTAL_SECONDS} s for all parts are over`] };
  }
  const limit = Math.min(limitSeconds, left);
  const files = { facts: join(folder, `${name}.facts.json`), report: join(folder, `${name}.report.json`) };
  writeFileSync(files.facts, JSON.stringify(facts));
  const start = Date.now();
  const ending = await runChild({
    command: [
      process.execPath,
      join(import.meta.dir, `parts/${name}.ts`),
      files.facts,
      files.report,
      String(limit * 1000),
    ],
    env: environment(),
    limitMs: limit * 1000,
    log: join(folder, `${name}.log`),
  });
  logs.push(`── ${title}\n${ending.output}`);
  const seconds = secondsSince(start);
  return { name, title, seconds, ...reportOf(files.report, ending, limit) };
}

/** What a part reported, or how it ended without a report. */
function reportOf(path: string, ending: Awaited<ReturnType<typeof runChild>>, limit: number): PartReport {
  const tail = lastLines(ending.output, 8);
  if (ending.timedOut) return { outcome: "failed", lines: [`was stopped after ${limit.toFixed(0)} s`, ...tail] };
  try {
    const report = JSON.parse(readFileSync(path, "utf8")) as PartReport;
    return report.outcome === "failed" ? { ...report, lines: [...report.lines, ...tail] } : report;
  } catch {
    return { outcome: "failed", lines: [`ended with code ${ending.code} and no report`, ...tail] };
  }
}

/** Written after each part, so that something is there if this process is stopped. */
function save(): void {
  const report = { when: new Date(began).toISOString(), seconds: secondsSince(began), facts, parts: results };
  writeFileSync(join(out, "report.json"), `${JSON.stringify(report, null, 2)}\n`);
  writeFileSync(join(out, "report.md"), markdown(report));
  writeFileSync(join(out, "log.txt"), logs.join("\n"));
}

for (const part of planned) {
  if (only !== undefined && !only.includes(part.name) && !always.includes(part.name)) continue;
  const result = await run(part);
  results.push(result);
  facts = { ...facts, ...result.facts };
  save();
  console.log(`${result.outcome.padEnd(8)} ${part.title} (${result.seconds.toFixed(1)} s)`);
  for (const line of result.lines) console.log(`         ${line}`);
}
rmSync(folder, { recursive: true });
console.log(`${summary(results)}; ${join(out, "report.md")}`);
process.exit(results.some(({ outcome }) => outcome === "failed") ? 1 : 0);
