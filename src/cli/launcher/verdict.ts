import { DistStoreError } from "../../errors/index.ts";
import { rankExitCode, signalExitCode } from "./exit-code.ts";
import type { RankExit } from "./rank-process.ts";

/** Why an attempt ended before its ranks succeeded; all nodes of a job agree on one. */
export type Verdict = RankVerdict | SignalVerdict | TimeoutVerdict | NodeVerdict;

/** A rank failed. */
export interface RankVerdict {
  readonly kind: "rank";
  /** The node it ran on, and that node's host name. */
  readonly node: number;
  readonly host: string;
  readonly exit: RankExit;
  readonly stderrTail: readonly string[];
  /** Whether the launcher captured the rank's error output; otherwise it went directly to the terminal. */
  readonly stderrSeen: boolean;
}

/** The launcher of a node received a signal. */
export interface SignalVerdict {
  readonly kind: "signal";
  readonly node: number;
  readonly signal: NodeJS.Signals;
}

/** The whole job timed out. */
export interface TimeoutVerdict {
  readonly kind: "timeout";
  readonly node: number;
  readonly timeoutMs: number;
}

/** The launcher of a node ended, or cannot be reached. */
export interface NodeVerdict {
  readonly kind: "node";
  readonly node: number;
  readonly reason: string;
}

const timeoutExitCode = 124;

/** Exit code of a job that ends with this verdict. */
export function verdictExitCode(verdict: Verdict): number {
  switch (verdict.kind) {
    case "rank":
      return rankExitCode(verdict.exit);
    case "signal":
      return signalExitCode(verdict.signal);
    case "timeout":
      return timeoutExitCode;
    case "node":
      return 1;
  }
}

const kinds: ReadonlySet<unknown> = new Set<Verdict["kind"]>(["rank", "signal", "timeout", "node"]);

/** Parses the JSON of a verdict from another node. @throws DistStoreError for anything else. */
export function parseVerdict(bytes: Uint8Array): Verdict {
  const text = new TextDecoder().decode(bytes);
  try {
    const value: unknown = JSON.parse(text);
    if (isVerdict(value)) return value;
  } catch {
    // Reported below.
  }
  throw new DistStoreError(`the launcher of another node wrote an invalid verdict: ${text.slice(0, 200)}`, {
    code: "BAD_VERDICT",
    op: "run",
  });
}

function isVerdict(value: unknown): value is Verdict {
  if (!isRecord(value) || !kinds.has(value.kind) || typeof value.node !== "number") return false;
  if (value.kind === "node") return typeof value.reason === "string";
  if (value.kind === "timeout") return typeof value.timeoutMs === "number";
  if (value.kind === "signal") return typeof value.signal === "string";
  const { exit, stderrTail, host } = value;
  return (
    isRecord(exit) &&
    [exit.rank, exit.pid, exit.elapsedMs].every((number) => typeof number === "number") &&
    typeof host === "string" &&
    Array.isArray(stderrTail) &&
    stderrTail.every((line) => typeof line === "string")
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
