import { type ErrorDetails, InvalidArgumentError } from "../../errors/index.ts";
import type { Fault } from "../fault.ts";

/** What a rank is to run; sent to it when it starts. */
export interface RankOrder {
  readonly file: string;
  readonly args: unknown;
  /** Path of the log of its ops. */
  readonly opLog: string;
  readonly faults: readonly Fault[];
}

/** An error as it crosses the process boundary. */
export interface ReportedError {
  readonly name: string;
  readonly message: string;
  /** Stable code of a DistError. */
  readonly code: string | undefined;
  readonly details: ErrorDetails | undefined;
  readonly stack: string | undefined;
}

/** What a rank sends back. */
export type RankMessage =
  | { readonly kind: "value"; readonly value: unknown }
  | { readonly kind: "error"; readonly error: ReportedError }
  | { readonly kind: "report"; readonly report: unknown };

/** @throws InvalidArgumentError for `args` that cannot be copied to the ranks. */
export function requireCloneable(caller: string, args: unknown): void {
  try {
    structuredClone(args);
  } catch (cause) {
    const text = `${caller}: args cannot be copied to the ranks (${cause}); use plain data`;
    throw new InvalidArgumentError(text, { argument: "args", cause });
  }
}

/** The parts of an error that can cross the process boundary. */
export function reportError(thrown: unknown): ReportedError {
  try {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown));
    const { code, details } = error as { code?: unknown; details?: unknown };
    return {
      name: error.name,
      message: messagesOf(error),
      code: typeof code === "string" ? code : undefined,
      details: canCross(details) ? details : undefined,
      stack: error.stack,
    };
  } catch {
    const what = Object.prototype.toString.call(thrown);
    return { name: "Error", message: `${what} was thrown and cannot be read`, ...nothingElse };
  }
}

const nothingElse = { code: undefined, details: undefined, stack: undefined };

/** Bun's errors for code that does not parse have the position outside the message, or are in a list. */
function messagesOf(error: Error): string {
  const { position, errors } = error as { position?: { file: string; line: number; column: number }; errors?: unknown };
  if (error instanceof AggregateError && Array.isArray(errors)) {
    return [error.message, ...errors.map((each) => (each instanceof Error ? messagesOf(each) : String(each)))].join(
      "\n",
    );
  }
  if (error.name !== "BuildMessage" || position == null) return error.message;
  return `${error.message} (${position.file}:${position.line}:${position.column})`;
}

function canCross(details: unknown): details is ErrorDetails {
  if (typeof details !== "object" || details === null) return false;
  try {
    structuredClone(details);
    return true;
  } catch {
    return false;
  }
}
