import { durationText } from "../../../time/duration-text.ts";
import { endOf, type Lane } from "./op-lanes.ts";
import type { OpView } from "./snapshot.ts";
import { timeText } from "./time-window.ts";

/** What is said of an op. Times are counted from the start of the job. */
export function textOf(op: OpView, now: number, startedAt: number): string {
  const forMs = endOf(op, now) - op.began;
  const how = op.ended === undefined ? `pending for ${timeText(forMs, 100)}` : `${endWords(op)} ${durationText(forMs)}`;
  const site = op.callSite === undefined ? "" : `\ncalled at ${op.callSite}`;
  return `rank ${op.rank}: ${op.text}\nbegan ${timeText(op.began - startedAt, 1)} after the start, ${how}${site}`;
}

function endWords({ hasFailed, wasCut }: OpView): string {
  if (wasCut) return "was pending when its process ended, after";
  return hasFailed ? "failed after" : "took";
}

/** What is said of a lane of which no op is selected. */
export function laneText(lane: Lane | undefined): string {
  if (lane === undefined) return "Select an op with the mouse or the arrow keys to see what it is.";
  const count = lane.ops.length;
  return `rank ${lane.rank}, group ${lane.group}: ${count === 0 ? "no op is known" : `${count} ${count === 1 ? "op is" : "ops are"} known`}`;
}
