import { fileURLToPath } from "node:url";
import { freePort, runProgram } from "../interop/programs.ts";
import type { Need } from "./exchange.ts";

/** The program that takes a rank's part in the exchange. */
export type Program = (device: string) => readonly string[];

const file = (name: string): string => fileURLToPath(new URL(`parts/${name}`, import.meta.url));

/** A rank of this library. */
export const bunRank: Program = (device) => [process.execPath, file("mixed-rank.ts"), device];

/** A rank of PyTorch, by the command for its Python. */
export const pythonRank =
  (...python: readonly string[]): Program =>
  (device) => [...python, file("mixed-rank.py"), device];

/** How two ranks got on. */
export interface PairOutcome {
  readonly passed: boolean;
  /** Steps that both passed. */
  readonly steps: number;
  /** What went wrong, by rank. */
  readonly wrong: readonly string[];
}

/** What to run two ranks with. */
export interface PairOptions {
  readonly programs: readonly [Program, Program];
  readonly devices: readonly [string, string];
  readonly env?: Readonly<Record<string, string>>;
  /** What the backend lacks. */
  readonly without?: readonly Need[];
  /** Whether the groups are bound to their devices, with communicators that are made at once. Default is `false`. */
  readonly eager?: boolean;
  readonly limitMs: number;
}

/** Runs the exchange of two ranks, the first of which hosts the store and makes NCCL's unique id. */
export async function runPair({
  programs,
  devices,
  env,
  without = [],
  eager,
  limitMs,
}: PairOptions): Promise<PairOutcome> {
  const port = String(freePort());
  const ends = await Promise.all(
    programs.map((program, rank) => {
      const own = { RANK: String(rank), LOCAL_RANK: String(rank), WORLD_SIZE: "2" };
      const store = { MASTER_ADDR: "127.0.0.1", MASTER_PORT: port };
      return runProgram(
        [...program(devices[rank] ?? "cpu"), ...without, ...(eager ? ["eager"] : [])],
        { ...env, ...environmentOfRank(env, rank), ...own, ...store },
        limitMs,
      );
    }),
  );
  const wrong = ends.flatMap(({ code, stdout, stderr }, rank) => {
    // Libraries write to standard output, too.
    const lines = stdout.split("\n").filter((line) => line.startsWith("WRONG "));
    if (code === 0 && lines.length === 0) return [];
    const how = code === null ? `was stopped after ${limitMs / 1000} s` : `ended with code ${code}`;
    console.log(`── rank ${rank} ${how}\n${stdout}\n${stderr}`);
    return [`rank ${rank} ${how}: ${[...lines, ...stderr.trim().split("\n").slice(-4)].join(" / ").slice(0, 800)}`];
  });
  const steps = Math.min(
    ...ends.map(({ stdout }) => stdout.split("\n").filter((line) => line.startsWith("ok ")).length),
  );
  return { passed: wrong.length === 0 && steps > 0, steps, wrong };
}

/** Replaces `{rank}` in values. */
function environmentOfRank(env: Readonly<Record<string, string>> = {}, rank: number): Record<string, string> {
  return Object.fromEntries(
    Object.entries(env).map(([name, value]) => [name, value.replaceAll("{rank}", String(rank))]),
  );
}
