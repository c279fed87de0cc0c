import { errorText, groupCallText, groupText, opText, sitesText, stateText } from "../text/op-text.ts";
import type { Job } from "./job.ts";

/** `Rank 2's last call: newGroup of group 1, in flight for 3 s (train.ts:8)`, or what {@link lastOpText} says. */
export function lastCallText(job: Job, rank: number, uid: string): string {
  const [trace, call] = [job.trace(rank), job.lastGroupCall(rank)];
  if (trace === undefined || call === undefined) return lastOpText(job, rank, uid);
  return `Rank ${rank}'s last call: ${groupCallText(call)}, ${stateText(call, trace)}${sitesText([call])}`;
}

/** `Rank 2's last op: broadcast #16, completed 12.4 s ago (load.ts:8)`; its group, if that is another one. */
function lastOpText(job: Job, rank: number, uid: string): string {
  const [trace, op] = [job.trace(rank), job.lastOp(rank)];
  if (trace === undefined) return `Rank ${rank} left no dump`;
  if (op === undefined) return `Rank ${rank} has called no op`;
  const group = job.groups.find((each) => each.group.uid === op.group && each.members.has(rank))?.group;
  const where = op.group === uid || group === undefined ? "" : ` of ${groupText(group)}`;
  const error = op.error === undefined ? "" : `: ${errorText(op.error)}`;
  return `Rank ${rank}'s last op: ${opText(op)}${where}, ${stateText(op, trace)}${sitesText([op])}${error}`;
}
