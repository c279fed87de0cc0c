/** Value below which the fraction `q` of the samples lies. */
export function quantile(samples: readonly number[], q: number): number {
  const sorted = Float64Array.from(samples).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
}

export function median(samples: readonly number[]): number {
  return quantile(samples, 0.5);
}

/** A duration with three digits and a suitable unit. */
export function showMicros(micros: number): string {
  if (Math.abs(micros) >= 1_000) return `${(micros / 1_000).toPrecision(3)} ms`;
  return `${micros.toPrecision(3)} µs`;
}

/** `4 B`, `64 KB` … */
export function showBytes(bytes: number): string {
  if (bytes >= 2 ** 20) return `${bytes / 2 ** 20} MB`;
  return bytes >= 2 ** 10 ? `${bytes / 2 ** 10} KB` : `${bytes} B`;
}

/** Lines of a table whose columns are as wide as they need to be. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) =>
      row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join("  "),
    )
    .join("\n");
}
