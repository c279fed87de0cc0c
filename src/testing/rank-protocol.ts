import type { ErrorDetails } from "../errors/index.ts";
import type { Fault } from "./fault.ts";

/** What a rank is to run; sent to it when it starts. */
export interface RankOrder {
  readonly file: string;
  readonly args: unknown;
  /** Path of the log that its ops are entered in. */
  readonly opLog: string;
  readonly faults: readonly Fault[];
}

/** An error as it crosses the process border. */
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

/** The parts of an error that can cross. */
export function reportError(thrown: unknown): ReportedError {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  const { code, details } = error as { code?: unknown; details?: unknown };
  return {
    name: error.name,
    message: error.message,
    code: typeof code === "string" ? code : undefined,
    details: typeof details === "object" && details !== null ? (details as ErrorDetails) : undefined,
    stack: error.stack,
  };
}
