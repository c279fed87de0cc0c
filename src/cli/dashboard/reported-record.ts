import type { OpStatus, RankRecord, RankStatus, RecordedOp } from "../../status/index.ts";

/** What another host reports of a rank, with the times by the clock of this one. */
export function onThisClock(status: RankStatus): RankRecord {
  const shift = (status.reportedAt ?? status.at) - status.at;
  const shifted = <O extends OpStatus>(op: O): O => ({
    ...began(op),
    ended: shiftedTime(op.ended),
  });
  const began = <B extends { readonly began: number }>(each: B): B => ({ ...each, began: each.began + shift });
  const shiftedTime = (time: number | undefined) => (time === undefined ? undefined : time + shift);
  const inFlight = status.inFlight.map(shifted);
  const last = status.last && shifted(status.last);
  const lastFailed = status.lastFailed && shifted(status.lastFailed);
  const ended = [last, lastFailed].filter((op) => op !== undefined);
  return {
    ...status,
    ...{ exitedAt: shiftedTime(status.exitedAt), closedAt: shiftedTime(status.closedAt) },
    ...{ making: status.making && began(status.making), closing: status.closing && began(status.closing) },
    ...{ at: status.at + shift, inFlight, last, lastFailed },
    ops: numbered([...ended, ...inFlight], shift),
  };
}

/** A report has no numbers; when an op began tells it from others of the rank, whatever the clocks did since. */
function numbered(ops: readonly OpStatus[], shift: number): RecordedOp[] {
  const byStart = new Map(ops.map((op) => [Math.round((op.began - shift) * 1_000), op]));
  return [...byStart].map(([number, op]) => ({ ...op, number })).sort((a, b) => a.number - b.number);
}
