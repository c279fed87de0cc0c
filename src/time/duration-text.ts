/** A duration in the unit that suits it: `350 µs`, `12 ms`, `12.3 s`, `4 min 5 s`, `2 h 5 min`. The page imports this too. */
export function durationText(ms: number): string {
  const span = Math.max(0, ms);
  if (span > 0 && span < 0.9995) return `${Math.round(span * 1_000)} µs`;
  if (span < 9.995) return `${rounded(span, 2)} ms`;
  if (span < 999.5) return `${Math.round(span)} ms`;
  if (span < 59_950) return `${rounded(span / 1_000, 1)} s`;
  const seconds = Math.round(span / 1_000);
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3_600)} h ${Math.floor((seconds % 3_600) / 60)} min`;
}

const rounded = (value: number, digits: number): string => String(Number(value.toFixed(digits)));
