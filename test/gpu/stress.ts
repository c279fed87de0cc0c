import { fileURLToPath } from "node:url";
import { spawnRanks } from "../../src/testing/index.ts";
import type { StressArguments, StressCounts } from "./stress-rank.ts";
import { spawnWith } from "./two-ranks.ts";

/** What a job of the stress test came to. */
export interface StressResult extends StressCounts {
  readonly ranks: number;
  /** What went wrong, by rank. */
  readonly wrong: readonly string[];
}

interface StressJob {
  readonly devices: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly seconds: number;
}

/** Runs the stress test for some seconds, a rank on each of the devices. */
export async function stressRanks({ devices, env, seconds }: StressJob): Promise<StressResult> {
  const args: StressArguments = { devices, seconds, seed: 1 + Math.floor(Math.random() * 1e9) };
  const file = fileURLToPath(new URL("stress-rank.ts", import.meta.url));
  const timeout = (seconds + 20) * 1000;
  const outcomes = await spawnRanks(devices.length, file, { args, timeout, ...spawnWith(env) });
  const wrong = outcomes.flatMap(({ rank, error, exitCode, signal, hung, hang, stdout, stderr }) => {
    if (error === undefined && exitCode === 0) return [];
    console.log(`── rank ${rank}\n${stdout}\n${stderr}`);
    const how = hung ? `hung in ${hang?.text ?? "no op"}` : (error?.message ?? `ended with ${signal ?? exitCode}`);
    return [
      `rank ${rank} (seed ${args.seed}): ${how} ${stderr.trim().split("\n").slice(-3).join(" / ")}`.slice(0, 800),
    ];
  });
  const counts = outcomes.map(({ value }) => value as StressCounts | undefined).filter((each) => each !== undefined);
  const least = (name: keyof StressCounts) => (counts.length === 0 ? 0 : Math.min(...counts.map((each) => each[name])));
  return { ranks: devices.length, rounds: least("rounds"), checks: least("checks"), aborts: least("aborts"), wrong };
}
