import { DistError } from "../../errors/index.ts";

/** A dict of a dump, whose fields are checked as they are read: a dump is foreign data. */
export class Fields {
  readonly #get: (name: string) => unknown;
  readonly #names: () => Iterable<unknown>;
  readonly #path: string;

  /** @param path Where it is in the dump, for errors. */
  constructor(value: unknown, path: string) {
    this.#path = path;
    if (value instanceof Map) {
      this.#get = (name) => value.get(name);
      this.#names = () => value.keys();
    } else if (typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array)) {
      this.#get = (name) => (Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined);
      this.#names = () => Object.keys(value);
    } else throw wrongValue(path === "" ? "the whole of it" : path, "a dict", value);
  }

  names(max: number): readonly string[] {
    const names = Array.from(this.#names(), String);
    if (names.length > max) throw dumpError(`${this.#path} has ${names.length} keys, more than ${max}`);
    return names;
  }

  has(name: string): boolean {
    const value = this.#get(name);
    return value !== undefined && value !== null;
  }

  fields(name: string): Fields {
    return new Fields(this.#get(name), this.pathOf(name));
  }

  /** A list of at most `max` values; one that is missing is empty. */
  list(name: string, max: number): readonly unknown[] {
    return this.has(name) ? listOf(this.#get(name), this.pathOf(name), max) : [];
  }

  /** @throws DistError if it is missing and has no fallback. */
  text(name: string, fallback?: string): string {
    const value = this.#get(name);
    if (typeof value === "string") return value;
    if (fallback !== undefined && !this.has(name)) return fallback;
    throw wrongValue(this.pathOf(name), "a string", value);
  }

  optionalText(name: string): string | undefined {
    return this.has(name) ? this.text(name) : undefined;
  }

  integer(name: string, fallback?: number): number {
    if (fallback !== undefined && !this.has(name)) return fallback;
    return integerOf(this.#get(name), this.pathOf(name));
  }

  optionalInteger(name: string): number | undefined {
    return this.has(name) ? this.integer(name) : undefined;
  }

  /** An integer of at least 0. */
  count(name: string, fallback?: number): number {
    if (fallback !== undefined && !this.has(name)) return fallback;
    return countOf(this.#get(name), this.pathOf(name));
  }

  optionalNumber(name: string): number | undefined {
    const value = this.#get(name);
    if (!this.has(name)) return undefined;
    if (typeof value === "number" || typeof value === "bigint") return Number(value);
    throw wrongValue(this.pathOf(name), "a number", value);
  }

  flag(name: string): boolean {
    const value = this.#get(name);
    if (typeof value === "boolean") return value;
    if (!this.has(name)) return false;
    throw wrongValue(this.pathOf(name), "true or false", value);
  }

  /** Nanoseconds as milliseconds; undefined for none, which PyTorch writes as None or 0. */
  time(name: string): number | undefined {
    const value = this.#get(name);
    if (!this.has(name) || value === 0) return undefined;
    if (typeof value !== "number" && typeof value !== "bigint") {
      throw wrongValue(this.pathOf(name), "a time in nanoseconds", value);
    }
    const ms = Number(value) / NS_PER_MS;
    if (ms >= 0 && ms < MAX_TIME_MS) return ms;
    throw dumpError(`${this.pathOf(name)} is no time: ${value}`);
  }

  pathOf(name: string): string {
    return this.#path === "" ? name : `${this.#path}.${name}`;
  }

  /** The value as it is. */
  raw(name: string): unknown {
    return this.#get(name);
  }
}

const NS_PER_MS = 1e6;
/** The year 2286. */
const MAX_TIME_MS = 1e13;

export function listOf(value: unknown, path: string, max: number): readonly unknown[] {
  if (!Array.isArray(value)) throw wrongValue(path, "a list", value);
  if (value.length > max) throw dumpError(`${path} has ${value.length} values, more than ${max}`);
  return value;
}

export function integerOf(value: unknown, path: string): number {
  const number = typeof value === "bigint" ? Number(value) : value;
  if (Number.isSafeInteger(number)) return number as number;
  throw wrongValue(path, "an integer", value);
}

export function countOf(value: unknown, path: string): number {
  const number = integerOf(value, path);
  if (number >= 0) return number;
  throw wrongValue(path, "an integer of at least 0", value);
}

/** The error for a value of a dump that is not what it must be. */
export function wrongValue(path: string, expected: string, value: unknown): DistError {
  if (value === undefined) return dumpError(`${path} is missing`);
  if (value === null) return dumpError(`${path} is empty (null or None); it must be ${expected}`);
  return dumpError(`${path} must be ${expected}, got ${kindOf(value)}`);
}

/** Longest text of which all is shown. */
const SHOWN = 80;

/** What a value is in JSON and in Python. */
function kindOf(value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? "an empty list" : `a list of ${value.length}`;
  if (value instanceof Uint8Array) return "bytes";
  if (typeof value === "object") return "a dict";
  if (typeof value !== "string") return String(value);
  return value.length > SHOWN ? `${JSON.stringify(value.slice(0, SHOWN))}…` : JSON.stringify(value);
}

/** The error for a file that is no dump. */
export function dumpError(reason: string, cause?: unknown): DistError {
  return new DistError(reason, { code: "INVALID_DUMP", ...(cause !== undefined && { cause }) });
}
