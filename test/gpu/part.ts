import { readFileSync, writeFileSync } from "node:fs";
import { messageOf } from "../../src/errors/index.ts";

/** What the runbook knows about the machine; later parts get what earlier ones found. */
export interface Facts {
  /** Whether CUDA and NCCL are the emulator's. */
  readonly emulator: boolean;
  /** Whether to take small sizes and short times, as the test of the runbook does. */
  readonly short: boolean;
  /** Command for a Python with PyTorch. */
  readonly python?: readonly string[];
  /** Version of that PyTorch if it was built for CUDA and sees a GPU. */
  readonly torchOnGpu?: string;
  /** PyTorch's libnccl.so.2. */
  readonly library?: string;
  /** Names of the devices, by index. */
  readonly devices?: readonly string[];
  /** Version of NCCL, as `ncclGetVersion` numbers it. */
  readonly nccl?: number;
  /** How two ranks can make a communicator here. */
  readonly twoRanks?: TwoRanks;
}

/** Where two ranks run. */
export interface TwoRanks {
  readonly devices: readonly [string, string];
  /** On top of the environment; `{rank}` stands for the rank. */
  readonly env: Readonly<Record<string, string>>;
}

/** What a part has to say. */
export interface PartReport {
  readonly outcome: "passed" | "failed" | "skipped";
  /** Lines for people: why it was skipped or failed, else what it saw. */
  readonly lines: readonly string[];
  /** What it measured. */
  readonly figures?: unknown;
  /** Tables for people, in Markdown. */
  readonly tables?: readonly string[];
  readonly facts?: Partial<Facts>;
}

/** Ends a part that cannot run here. */
export class Skipped extends Error {
  override readonly name = "Skipped";
}

/** A part; it should have ended before `limitMs` are over. */
export type PartBody = (facts: Facts, limitMs: number) => PartReport | Promise<PartReport>;

/** Time for a part that knows its limit to report that it is over. */
const RESERVE_MS = 3_000;

/**
 * Runs the body of a part. Its process gets the path of a file with the {@link Facts}, that of one for its report, and
 * the milliseconds that it has; a report that says that it failed gives exit code 1.
 */
export async function runPart(body: PartBody): Promise<never> {
  const [factsPath = "", reportPath = "", limit = ""] = Bun.argv.slice(2);
  const facts = JSON.parse(readFileSync(factsPath, "utf8")) as Facts;
  let report: PartReport;
  try {
    report = await body(facts, Number(limit) - RESERVE_MS);
  } catch (error) {
    console.error(error);
    report = { outcome: error instanceof Skipped ? "skipped" : "failed", lines: [messageOf(error)] };
  }
  writeFileSync(reportPath, JSON.stringify(report));
  process.exit(report.outcome === "failed" ? 1 : 0);
}
