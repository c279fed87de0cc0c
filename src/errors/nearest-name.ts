/** The name that was probably meant: one that is a typing error or two away, or that begins with what was written. */
export function nearestName(written: string, names: Iterable<string>): string | undefined {
  const text = written.toLowerCase();
  if (text.length < 2) return undefined;
  let best: string | undefined;
  let least = Math.max(1, Math.floor(text.length / 3)) + 1;
  for (const name of names) {
    const candidate = name.toLowerCase();
    const distance = text.length > 2 && candidate.startsWith(text) ? 1 : editDistance(text, candidate);
    if (distance >= least) continue;
    least = distance;
    best = name;
  }
  return best;
}

/** `; did you mean "…"?`, or nothing. */
export function didYouMean(written: string, names: Iterable<string>): string {
  const name = nearestName(written, names);
  return name === undefined ? "" : `; did you mean "${name}"?`;
}

/** Levenshtein distance. */
function editDistance(a: string, b: string): number {
  let above = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (above[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(replaced, (above[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1));
    }
    above = row;
  }
  return above[b.length] ?? 0;
}
