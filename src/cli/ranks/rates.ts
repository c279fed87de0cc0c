import type { RankStatus } from "../../status/index.ts";

/** Since the look before. */
export interface Rates {
  readonly opsPerSecond: number;
  readonly bytesPerSecond: number;
}

/** The rates of a rank between two looks at it; undefined for another process. */
export function ratesOf(before: RankStatus | undefined, now: RankStatus): Rates | undefined {
  if (before === undefined || before.pid !== now.pid || before.begun > now.begun) return undefined;
  const elapsed = (now.at - before.at) / 1_000;
  if (elapsed <= 0) return undefined;
  return {
    opsPerSecond: (now.begun - before.begun) / elapsed,
    bytesPerSecond: (now.bytes - before.bytes) / elapsed,
  };
}

export function countText(perSecond: number): string {
  return perSecond < 10 && perSecond > 0 ? perSecond.toFixed(1) : Math.round(perSecond).toLocaleString("en");
}

const units = ["B", "kB", "MB", "GB", "TB"] as const;

export function bytesText(perSecond: number): string {
  let [value, unit] = [perSecond, 0];
  while (value >= 1_000 && unit < units.length - 1) {
    value /= 1_000;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}
