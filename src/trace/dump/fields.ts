import { DistError, describe } from "../../errors/index.ts";

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
    } else throw dumpError(`${path} must be a dict, got ${describe(value)}`);
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
    throw dumpError(`${this.pathOf(name)} must be a string, got ${describe(value)}`);
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

  flag(name: string): boolean {
    const value = this.#get(name);
    if (typeof value === "boolean") return value;
    if (!this.has(name)) return false;
    throw dumpError(`${this.pathOf(name)} must be true or false, got ${describe(value)}`);
  }

  /** Nanoseconds as milliseconds; undefined for none, which PyTorch writes as None or 0. */
  time(name: string): number | undefined {
    const value = this.#get(name);
    if (!this.has(name) || value === 0) return undefined;
    if (typeof value !== "number" && typeof value !== "bigint") {
      throw dumpError(`${this.pathOf(name)} must be a time in nanoseconds, got ${describe(value)}`);
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
  if (!Array.isArray(value)) throw dumpError(`${path} must be a list, got ${describe(value)}`);
  if (value.length > max) throw dumpError(`${path} has ${value.length} values, more than ${max}`);
  return value;
}

export function integerOf(value: unknown, path: string): number {
  const number = typeof value === "bigint" ? Number(value) : value;
  if (Number.isSafeInteger(number)) return number as number;
  throw dumpError(`${path} must be an integer, got ${describe(value)}`);
}

/** The error for a file that is no dump. */
export function dumpError(reason: string, cause?: unknown): DistError {
  return new DistError(reason, { code: "INVALID_DUMP", ...(cause !== undefined && { cause }) });
}
