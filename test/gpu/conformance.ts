import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { testsOf } from "./junit.ts";
import type { PartReport, TwoRanks } from "./part.ts";

/** What conformance-suite.ts is to run. */
export interface ConformanceTerms {
  readonly ranks: number;
  readonly env: TwoRanks["env"];
}

const suite = fileURLToPath(new URL("conformance-suite.ts", import.meta.url));

/** Runs the conformance suite, within a limit. */
export async function runConformance(terms: ConformanceTerms, limitMs: number): Promise<PartReport> {
  const report = join(tmpdir(), `conformance-${process.pid}.xml`);
  const child = Bun.spawn([process.execPath, "test", suite, "--reporter=junit", `--reporter-outfile=${report}`], {
    env: { ...process.env, C10D_GPU_CONFORMANCE: JSON.stringify(terms), NO_COLOR: "1" },
    stdin: "ignore",
    stdout: "inherit",
    stderr: "inherit",
    timeout: limitMs,
    killSignal: "SIGKILL",
  });
  const code = await child.exited;
  if (child.signalCode !== null) {
    return { outcome: "failed", lines: [`was not done after ${(limitMs / 1000).toFixed(0)} s (${child.signalCode})`] };
  }
  const { passed, skipped, failed } = testsOf(report);
  const outcome = code === 0 && failed.length === 0 && passed > 0 ? "passed" : "failed";
  const lines = [`${passed} passed, ${failed.length} failed, ${skipped} skipped`, ...failed.slice(0, 40)];
  return { outcome, lines, figures: { passed, skipped, failed } };
}
