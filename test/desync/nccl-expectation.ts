import type { ReportedError } from "bun-c10d/testing";
import { kindOf } from "./expectation.ts";
import { endsJob, isDetail, type NcclCell, TIMEOUT_MS } from "./nccl-cell.ts";
import type { RankReport } from "./report.ts";
import { caseOf, type Step } from "./ways.ts";

const SOON_MS = 4_000;

/** What is wrong with the reports of the ranks of a cell. */
export function judgeNccl(cell: NcclCell, reports: readonly (RankReport | undefined)[]): string[] {
  const problems: string[] = [];
  for (let rank = 0; rank < cell.worldSize; rank++) {
    const report = reports[rank];
    if (report !== undefined) problems.push(...judgeRank(cell, rank, report).map((text) => `rank ${rank}: ${text}`));
    else if (!(endsJob(cell) && rank === cell.odd)) problems.push(`rank ${rank} did not complete`);
  }
  const errors = reports.flatMap((report) => report?.ends ?? []).filter((error) => !isRefusal(error));
  if (!mayBeUnseen(cell) && errors.every((error) => error === undefined)) problems.push("no rank has an error");
  return problems;
}

/** Whether NCCL may take the calls for the same. */
function mayBeUnseen(cell: NcclCell): boolean {
  // A barrier is an all-reduce of one float, as in PyTorch.
  if (cell.name === "all-reduce, barrier") return !isDetail(cell);
  // Refused calls do not count.
  return caseOf(cell.name).way === "refused on one rank";
}

/** The errors that may tell of it. NCCL itself compares nothing, so that ranks wait for each other until the time-out. */
export function ncclKinds(cell: NcclCell): readonly string[] {
  const { end } = caseOf(cell.name);
  const late = "DistTimeoutError OP_TIMEOUT";
  const lost = "DistNetworkError PEER_LOST";
  const kinds = end === "odd lost" ? [lost] : [late];
  if (end === "desync" && isDetail(cell)) kinds.push("DistBackendError DESYNC");
  // A rank that blocks may first see another one leave that timed out before.
  if (cell.mode === "wait" && end !== "odd lost") kinds.push(lost);
  return kinds;
}

function judgeRank(cell: NcclCell, rank: number, report: RankReport): string[] {
  const problems = [...report.problems];
  const expect = (holds: boolean, otherwise: string): void => {
    if (!holds) problems.push(otherwise);
  };
  const { usual, odd } = caseOf(cell.name);
  const steps: readonly Step[] = rank === cell.odd ? odd : usual;
  const failing = steps.findIndex(({ kind }) => kind === "call" || kind === "elsewhere");
  for (const [i, step] of steps.entries()) {
    const error = report.ends[i];
    if (!("call" in step)) continue;
    if (step.kind === "refused" || step.kind === "refused in a batch") {
      expect(isRefusal(error), `${step.kind}: ${kindOf(error)}: ${error?.message}`);
    } else if (i === failing && error !== undefined) {
      expect(ncclKinds(cell).includes(kindOf(error)), `${kindOf(error)}: ${error.message}`);
      expect(saysWhatOthersDo(error), `it does not say what the others are in: ${error.message}`);
    }
  }
  expect(report.ms < TIMEOUT_MS + SOON_MS, `it took ${report.ms.toFixed(0)} ms`);
  if (report.state !== "FAILED") return problems;
  // A rank that made no call in the group learns of the failure from its next one.
  const isTold = steps[failing]?.kind !== "call" || isDetail(cell);
  const { later } = report;
  expect(
    later !== undefined && (isTold || later.code === "GROUP_FAILED"),
    `later: ${kindOf(later)}: ${later?.message}`,
  );
  return problems;
}

const isRefusal = (error: ReportedError | undefined): boolean => error?.code === "INVALID_ARGUMENT";

/** Whether a time-out says what the ranks are in that have not come, or that all have come. */
function saysWhatOthersDo({ code, message }: ReportedError): boolean {
  return (
    code !== "OP_TIMEOUT" ||
    /rank \d+ \(pid \d+\)|in its place|all other ranks have called it|Monitored Barrier/.test(message)
  );
}
