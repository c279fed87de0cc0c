import type { ReportedError } from "bun-c10d/testing";
import { type Cell, endOf, timeoutOf } from "./cell.ts";
import type { RankReport } from "./report.ts";
import type { Mode } from "./shape.ts";
import type { Sized, Verdict } from "./verdict.ts";

/**
 * How a program ended: its fault named rightly, otherwise, or not at all; or quietly, as a correct one must, or with a
 * false alarm. What is known to be named otherwise at times counts as that.
 */
export type Outcome = "named" | "misnamed" | "missed" | "quiet" | "false alarm";

export interface Judgement {
  readonly outcome: Outcome;
  /** What differs from the expectation. */
  readonly problems: readonly string[];
}

/** How soon after the calls, or after the time-out of an op, a rank must have its error, on a busy machine. */
const SOON_MS = 4_000;

export function judge(cell: Cell, reports: readonly (RankReport | undefined)[]): Judgement {
  const { place, mode, worldSize: size } = cell;
  const end = endOf(cell);
  const errors = reports.map((report) => report?.error);
  const failures = errors.flatMap((error, rank) => (error === undefined ? [] : [`rank ${rank}: ${textOf(error)}`]));
  const lost = reports.flatMap((report, rank) => (report === undefined ? [`rank ${rank} did not complete`] : []));
  const late = end.kind === "found" ? lateIn(reports, timeoutOf(cell)) : [];
  const always = [...lost, ...late];
  if (end.kind === "legal") {
    return { outcome: failures.length === 0 ? "quiet" : "false alarm", problems: [...always, ...failures] };
  }
  if (end.kind === "missed") {
    const found = failures.map((text) => `found after all: ${text}`);
    return { outcome: failures.length === 0 ? "missed" : "misnamed", problems: [...always, ...found] };
  }
  if (failures.length === 0) return { outcome: "missed", problems: [...always, "no rank has an error"] };
  const wrong = errors.flatMap((error, rank) => {
    const verdicts = end.by({ rank, size, mode, place });
    if (reports[rank] === undefined || verdicts.some((verdict) => isSaid(verdict, error, mode))) return [];
    if (verdicts.some(({ kind }) => kind === "missing") && isConsequence(cell, error, errors)) return [];
    const expected = verdicts.map((verdict) => JSON.stringify(verdict)).join(" or ");
    return [`rank ${rank}: ${textOf(error)}, not ${expected}`];
  });
  return { outcome: wrong.length === 0 ? "named" : "misnamed", problems: [...always, ...wrong] };
}

/**
 * Whether a rank that blocks, in a group of three or more, names one that gave up before it did: docs/faults.md. The
 * first one to give up had its time-out.
 */
function isConsequence(
  { mode, worldSize }: Cell,
  error: ReportedError | undefined,
  errors: readonly (ReportedError | undefined)[],
): boolean {
  if (mode !== "wait" || worldSize < 3 || error?.code !== "PEER_LOST") return false;
  const gaveUp = (rank: number): boolean => ["OP_TIMEOUT", "PEER_LOST"].includes(`${errors[rank]?.code}`);
  const peers = error.details?.peers ?? [];
  return peers.length > 0 && peers.every(gaveUp) && errors.some((each) => each?.code === "OP_TIMEOUT");
}

function lateIn(reports: readonly (RankReport | undefined)[], timeoutMs: number): string[] {
  return reports.flatMap((report, rank) =>
    report !== undefined && report.ms > timeoutMs + SOON_MS ? [`rank ${rank} took ${report.ms.toFixed(0)} ms`] : [],
  );
}

function textOf(error: ReportedError | undefined): string {
  if (error === undefined) return "finishes";
  const { name, code, details, message } = error;
  return `${name} ${code} [${details?.peers ?? ""}] ${message}`;
}

/** Whether the end of a rank is this verdict. */
function isSaid(verdict: Verdict, error: ReportedError | undefined, mode: Mode): boolean {
  if (verdict.kind === "finishes") return error === undefined;
  if (error === undefined) return false;
  const { name, code, details, message } = error;
  const peers = details?.peers ?? [];
  switch (verdict.kind) {
    case "refused":
      return code === "INVALID_ARGUMENT" && details?.op === verdict.op && details?.argument === verdict.argument;
    case "unsupported":
      return code === "UNSUPPORTED_OPERATION" && details?.op === verdict.op && details.argument === verdict.argument;
    case "not initialized":
      return code === "NOT_INITIALIZED";
    case "missing":
      return (
        (code === "OP_TIMEOUT" || (code === "PEER_LOST" && mode === "wait")) &&
        details?.op === verdict.op &&
        peers.length > 0 &&
        peers.every((peer) => verdict.peers.includes(peer))
      );
    case "crossed":
      return (
        code === "OP_TIMEOUT" &&
        details?.op === verdict.op &&
        peers.length === 0 &&
        message.includes(`ranks ${verdict.peers.join(" and ")}`)
      );
    case "desync": {
      const named = Array.from(message.matchAll(/rank (\d+) called (\w+\(.*?\))(?= as collective|, rank|\. All|$)/g));
      const right = named.every(([, rank, call]) =>
        verdict.calls.some((each) => each.call === call && each.ranks.includes(Number(rank))),
      );
      const calls = new Set(named.map(([, , call]) => call));
      return name === "DistBackendError" && code === "DESYNC" && peers.length === 0 && right && calls.size === 2;
    }
    case "size": {
      const [, sent, expected] = /sent ([^\s;]+).* to receive ([^\s;]+)/.exec(message) ?? [];
      const said = ({ bytes, text }: Sized): string[] => [String(bytes), text];
      const told = said(verdict.sent).indexOf(`${sent}`);
      const right = told >= 0 && said(verdict.expected)[told] === expected;
      return name === "DistBackendError" && code === "DESYNC" && peers.length === 0 && right;
    }
  }
}
