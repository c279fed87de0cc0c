import { InvalidArgumentError } from "../errors/dist-error.ts";

/** A time-out: milliseconds, `Infinity` for none, or a string such as `"500ms"`, `"30s"`, `"5m"`, `"1h"`. */
export type Timeout = number | string;

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, min: 60_000, h: 3_600_000 };

/**
 * A {@link Timeout} in milliseconds; the default for `undefined`.
 * @throws InvalidArgumentError for 0, negative numbers, NaN and strings without a known unit.
 */
export function timeoutMs(timeout: Timeout | undefined, defaultMs: number): number {
  if (timeout === undefined) return defaultMs;
  const ms = typeof timeout === "number" ? timeout : typeof timeout === "string" ? parse(timeout) : Number.NaN;
  if (!(ms > 0)) {
    const given = typeof timeout === "string" ? JSON.stringify(timeout) : String(timeout);
    throw new InvalidArgumentError(
      `timeout must be a positive number of milliseconds, Infinity, or a string such as "30s"; got ${given}`,
      { argument: "timeout" },
    );
  }
  return ms;
}

function parse(text: string): number {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|min|h)\s*$/.exec(text);
  const unit = unitMs[match?.[2] ?? ""];
  return match && unit !== undefined ? Number(match[1]) * unit : Number.NaN;
}

/** Default time-outs in milliseconds. c10d: `_DEFAULT_PG_TIMEOUT` and others. */
export const defaultTimeoutMs = {
  store: 300_000,
  processGroup: 30 * 60_000,
  nccl: 10 * 60_000,
  controlCollectives: 5 * 60_000,
} as const;
