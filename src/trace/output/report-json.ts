import type { Analysis } from "../analysis/analysis.ts";
import { callSiteOf, type GroupCall, isRecorded, type RankTrace, type TraceCall, type TraceOp } from "../rank-trace.ts";

/** The analysis as plain data. docs/trace.md lists the fields. */
export function reportJson({ job, findings, inFlight, notes, absent }: Analysis): object {
  return {
    findings: findings.map(({ kind, group, seq, ranks, text, sides }) => ({
      kind,
      group: group.uid,
      description: group.description,
      seq: seq ?? null,
      ranks,
      text,
      ...(sides !== undefined && { sides: sides.map((side) => ({ ranks: side.ranks, op: opJson(side.op) })) }),
    })),
    inFlight,
    notes,
    absent,
    groups: job.groups.map(({ group }) => group),
    ranks: job.traces.map((trace) => rankJson(trace, job.lastOp(trace.rank))),
  };
}

function rankJson(trace: RankTrace, lastOp: TraceOp | undefined): object {
  const { rank, file, version, writer, host, dropped, dumpedMs, ops, isFailure, groupCalls } = trace;
  return {
    rank,
    file,
    version,
    writer,
    host: host ?? null,
    ops: ops.length,
    dropped,
    dumpedMs,
    lastOp: lastOp === undefined ? null : opJson(lastOp),
    isFailure,
    groupCalls: groupCalls?.map(groupCallJson) ?? null,
  };
}

function groupCallJson(call: GroupCall): object {
  const { frames, timeoutMs, ...rest } = call;
  return { ...rest, timeoutMs: Number.isFinite(timeoutMs) ? timeoutMs : null, callSite: callSiteOf(call) ?? null };
}

function opJson(op: TraceCall): object {
  const { frames, message, ...rest } = op;
  return {
    ...rest,
    message: message ?? null,
    ...(isRecorded(op) && { timeoutMs: Number.isFinite(op.timeoutMs) ? op.timeoutMs : null }),
    callSite: callSiteOf(op) ?? null,
  };
}
