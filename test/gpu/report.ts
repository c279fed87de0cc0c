import type { Facts, PartReport } from "./part.ts";

/** A part that was run, or not reached. */
export interface PartResult extends PartReport {
  readonly name: string;
  readonly title: string;
  readonly seconds: number;
}

/** All that the runbook found. */
export interface Report {
  readonly when: string;
  readonly seconds: number;
  readonly facts: Facts;
  readonly parts: readonly PartResult[];
}

const marks = { passed: "passed", failed: "FAILED", skipped: "skipped" } as const;

/** The report for people. */
export function markdown({ when, seconds, facts, parts }: Report): string {
  const what = facts.emulator
    ? "**On the emulator of CUDA and NCCL, not on a GPU:** its times say nothing about any machine."
    : `On ${facts.devices?.join(", ") || "a machine without a device"}.`;
  const overview = table(
    ["part", "outcome", "seconds"],
    parts.map(({ title, outcome, seconds: took }) => [title, marks[outcome], took.toFixed(1)]),
  );
  const details = parts.map(({ title, outcome, lines, tables = [] }) => {
    const list = lines.map((line) => `- ${line}`).join("\n");
    return [`## ${title}: ${marks[outcome]}`, list, ...tables].filter((text) => text !== "").join("\n\n");
  });
  return [`# NCCL backend, ${when}`, `${what} ${seconds.toFixed(0)} s in all.`, overview, ...details, ""].join("\n\n");
}

/** A table in Markdown. */
export function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(heads), line(heads.map(() => "---")), ...rows.map(line)].join("\n");
}

/** How it went, in a line. */
export function summary(parts: readonly PartResult[]): string {
  const count = (outcome: PartReport["outcome"]) => parts.filter((each) => each.outcome === outcome).length;
  return `${count("passed")} parts passed, ${count("failed")} failed, ${count("skipped")} skipped`;
}
