import { InvalidArgumentError } from "../../errors/index.ts";

/** Options of the fake backend: `initProcessGroup({ backend: "fake", options: { … } })`. */
export interface FakeOptions {
  /**
   * `local`: all ranks are in this process and exchange real data (see `localRanks`). `solo`: this process pretends to
   * be one rank of many, and nobody else is there. Default is `local`.
   */
  readonly mode: "local" | "solo";
  /** Local: delivers results later, in an order that this number decides. Default: at once, in the order of ranks. */
  readonly seed: number | undefined;
  /** Solo: every collective fails. Default is `false`. */
  readonly errorOnCollective: boolean;
  /** Solo: milliseconds until an op ends. Default is 0: it has ended when the call returns. */
  readonly delayMs: number;
  /** Solo: sequence number of the collective that fails, and the group with it; the first one is 1. Default: none. */
  readonly failAt: number | undefined;
}

const known = ["mode", "seed", "errorOnCollective", "delayMs", "failAt"];

/** @throws InvalidArgumentError for unknown or wrong options, and for those of the other mode. */
export function parseFakeOptions(options: Readonly<Record<string, unknown>>): FakeOptions {
  const unknown = Object.keys(options).find((key) => !known.includes(key));
  if (unknown !== undefined) {
    throw new InvalidArgumentError(`fake: unknown option "${unknown}" (known are ${known.join(", ")})`, {
      argument: unknown,
    });
  }
  const { mode = "local", seed, errorOnCollective = false, delayMs = 0, failAt } = options;
  if (mode !== "local" && mode !== "solo") throw wrong("mode", '"local" or "solo"', mode);
  if (typeof errorOnCollective !== "boolean") throw wrong("errorOnCollective", "a boolean", errorOnCollective);
  if (typeof delayMs !== "number" || !(delayMs >= 0)) throw wrong("delayMs", "a number of at least 0", delayMs);
  const foreign = mode === "solo" ? ["seed"] : ["errorOnCollective", "delayMs", "failAt"];
  const misplaced = foreign.find((key) => options[key] !== undefined);
  if (misplaced !== undefined) {
    throw new InvalidArgumentError(`fake: option ${misplaced} has no meaning in mode "${mode}"`, {
      argument: misplaced,
    });
  }
  return {
    mode,
    errorOnCollective,
    delayMs,
    seed: integer("seed", seed, 0),
    failAt: integer("failAt", failAt, 1),
  };
}

function integer(option: string, value: unknown, least: number): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= least) return value;
  throw wrong(option, `an integer of at least ${least}`, value);
}

function wrong(option: string, expected: string, got: unknown): InvalidArgumentError {
  return new InvalidArgumentError(`fake: option ${option} must be ${expected}, got ${String(got)}`, {
    argument: option,
  });
}
