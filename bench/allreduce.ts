/**
 * All-reduce of float32 SUM by 2 ranks over Gloo: Bun with `wait()`, Bun with `await`, and the same calls from C++.
 * The three take turns in short rounds, so that whatever else the machine does hits all of them alike.
 *
 *     bun bench/allreduce.ts [--rounds 10] [--sizes 4,1024,65536] [--json]
 */
import { parseArgs } from "node:util";
import { Contender, type Job, type Result } from "./harness/contender.ts";
import { median, quantile, showBytes, showMicros, table } from "./harness/samples.ts";

export interface Line {
  readonly who: string;
  /** Microseconds. */
  readonly median: number;
  readonly p90: number;
  /** Least median of a round: what it takes when nothing disturbs. */
  readonly bestRound: number;
  readonly rounds: readonly (readonly number[])[];
}

export interface Comparison {
  readonly bytes: number;
  readonly cpp: Line;
  readonly wait: Line;
  readonly await: Line;
  /** Median over the rounds of what `wait()` took in relation to C++ in the same round. */
  readonly waitRatio: number;
  /** The same of the best rounds. */
  readonly bestRatio: number;
  /** Median over the rounds of how many microseconds longer `await` took than `wait()` in the same round. */
  readonly awaitExtra: number;
}

export interface Contenders {
  readonly bun: Contender;
  readonly cpp: Contender;
}

const SIZES = [4, 2 ** 10, 2 ** 16, 2 ** 20, 2 ** 24];
/** Buffers take turns so that a large one is not in the cache when its turn comes. */
const BUFFERS = 4;

/** Enough iterations for a steady median, few enough for many short rounds. */
function jobOf(bytes: number): Omit<Job, "mode"> {
  if (bytes <= 2 ** 13) return { bytes, warmUp: 50, iterations: 300, buffers: BUFFERS };
  if (bytes <= 2 ** 16) return { bytes, warmUp: 20, iterations: 150, buffers: BUFFERS };
  if (bytes <= 2 ** 20) return { bytes, warmUp: 8, iterations: 40, buffers: BUFFERS };
  return { bytes, warmUp: 2, iterations: 8, buffers: BUFFERS };
}

/** Runs the three in turns. */
export async function compare({ bun, cpp }: Contenders, bytes: number, rounds: number): Promise<Comparison> {
  const job = jobOf(bytes);
  const turns: readonly (readonly [keyof typeof taken, Contender, Job["mode"]])[] = [
    ["cpp", cpp, "wait"],
    ["wait", bun, "wait"],
    ["await", bun, "await"],
  ];
  const taken = { cpp: [] as Result[], wait: [] as Result[], await: [] as Result[] };
  for (let round = 0; round < rounds; round++) {
    // Nobody is always first.
    const first = round % turns.length;
    for (const [who, contender, mode] of [...turns.slice(first), ...turns.slice(0, first)]) {
      taken[who].push(await contender.run({ ...job, mode }));
    }
  }
  const lines = {
    cpp: lineOf("C++", taken.cpp),
    wait: lineOf("Bun wait()", taken.wait),
    await: lineOf("Bun await", taken.await),
  };
  return {
    bytes,
    ...lines,
    waitRatio: median(paired(taken.wait, taken.cpp, (wait, base) => wait / base)),
    bestRatio: lines.wait.bestRound / lines.cpp.bestRound,
    awaitExtra: median(paired(taken.await, taken.wait, (awaited, waited) => awaited - waited)),
  };
}

function lineOf(who: string, results: readonly Result[]): Line {
  const rounds = results.map(({ micros }) => micros);
  const all = rounds.flat();
  return {
    who,
    median: median(all),
    p90: quantile(all, 0.9),
    bestRound: Math.min(...rounds.map(median)),
    rounds,
  };
}

function paired(a: readonly Result[], b: readonly Result[], of: (a: number, b: number) => number): number[] {
  return a.map((each, round) => of(median(each.micros), median(b[round]?.micros ?? [])));
}

function report(comparisons: readonly Comparison[]): string {
  const header = ["float32 SUM, 2 ranks", "C++", "wait()", "await", "best", "best", "wait/C++", "best", "await-wait"];
  const units = ["", "median (p90)", "median (p90)", "median (p90)", "C++", "wait()", "by round", "rounds", "by round"];
  const cell = ({ median, p90 }: Line): string => `${showMicros(median)} (${showMicros(p90)})`;
  const rows = comparisons.map((each) => [
    showBytes(each.bytes),
    cell(each.cpp),
    cell(each.wait),
    cell(each.await),
    showMicros(each.cpp.bestRound),
    showMicros(each.wait.bestRound),
    each.waitRatio.toFixed(2),
    each.bestRatio.toFixed(2),
    showMicros(each.awaitExtra),
  ]);
  return table([header, units, ...rows]);
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string", default: "10" },
      sizes: { type: "string", default: SIZES.join(",") },
      json: { type: "boolean", default: false },
    },
  });
  await using bun = await Contender.bun();
  await using cpp = await Contender.cpp();
  const comparisons: Comparison[] = [];
  for (const bytes of values.sizes.split(",").map(Number)) {
    comparisons.push(await compare({ bun, cpp }, bytes, Number(values.rounds)));
  }
  console.log(values.json ? JSON.stringify(comparisons) : report(comparisons));
}
