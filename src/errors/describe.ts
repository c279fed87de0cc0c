/** Longest text that is shown in full, in characters. */
const SHOWN = 80;

/** Short description of a value for error messages. */
export function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === "object") return value.constructor?.name ?? "an object";
  if (typeof value === "string") return value.length > SHOWN ? `"${value.slice(0, SHOWN)}…"` : `"${value}"`;
  if (typeof value === "function") return value.name === "" ? "a function" : `function ${value.name}`;
  return `${typeof value} ${String(value)}`;
}

/** {@link describe} for a value that should have been a number. */
export function describeNumber(value: unknown): string {
  return typeof value === "number" ? String(value) : describe(value);
}
