import type { GroupCall } from "../rank-trace.ts";
import { framesOf, timeoutMs } from "./dump-entry.ts";
import { type Fields, wrongValue } from "./fields.ts";

export const MAX_GROUP_CALLS = 100_000;

/** Reads a call that makes or closes a group. @throws DistError for one that is none. */
export function readGroupCall(fields: Fields, ranksOf: (value: unknown, path: string) => readonly number[]): GroupCall {
  const state = fields.text("state");
  if (state !== "started" && state !== "completed" && state !== "failed") {
    throw wrongValue(fields.pathOf("state"), "started, completed or failed", state);
  }
  return {
    name: fields.text("call"),
    group: fields.text("group"),
    ranks: ranksOf(fields.raw("ranks"), fields.pathOf("ranks")),
    state,
    error: fields.optionalText("error"),
    createdMs: fields.time("time_created_ns") ?? 0,
    finishedMs: fields.time("time_completed_ns"),
    timeoutMs: timeoutMs(fields),
    frames: framesOf(fields),
  };
}
