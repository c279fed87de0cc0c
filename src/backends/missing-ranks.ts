/**
 * Ranks that the text of a failed monitored barrier names, in its own words (native/monitored_barrier.cc): a native
 * failure has room for one rank only. Empty for any other failure.
 */
export function missingRanks(text: string): number[] {
  const list = /Ranks? ([\d, ]+) failed to pass monitoredBarrier/.exec(text)?.[1];
  return list === undefined ? [] : list.split(", ").map(Number);
}
