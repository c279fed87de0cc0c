import { type Frame, framesOf } from "../../errors/index.ts";
import type { TraceEntry } from "../../recorder/index.ts";
import { isServingBlocked } from "../../work/index.ts";
import { entriesOf, type ServedRank } from "./served-rank.ts";

/** Frames of the main thread that are shown. */
const MAX_FRAMES = 64;

/**
 * Where this process is: the stack of this thread if it blocks in `wait()`, and the ops in flight, in the form of Python's
 * `faulthandler`. Code that awaits something has no stack: of that, only the ops are known.
 */
export function tracebackText(served: ServedRank): string {
  const title = `Process ${process.pid}, Bun ${Bun.version}, main thread`;
  const stack = isServingBlocked()
    ? [`${title}, blocked in wait() (most recent call first):`, ...ownStack()]
    : [`${title}: in the event loop; functions that await something have no stack`];
  return [...stack, "", ...opsOf(served), ""].join("\n");
}

/** The ops in flight; without any, the last one. */
function opsOf(served: ServedRank): string[] {
  const ops = entriesOf(served, true);
  if (ops.length > 0) return [`Ops in flight, oldest first (${ops.length}):`, ...ops.flatMap(opLines)];
  const last = entriesOf(served, false).at(-1);
  return last === undefined ? ["No ops in flight"] : ["No ops in flight; the last one:", ...opLines(last)];
}

/** An op, and where it was called. */
function opLines({ op, seq, group, state, timeCreated, frames }: TraceEntry): string[] {
  const number = seq < 0 ? "" : ` #${seq}`;
  const seconds = ((Date.now() - timeCreated) / 1_000).toFixed(1);
  const rank = group.globalRanks[group.rank] ?? group.rank;
  const ranks = `[${group.globalRanks.join(", ")}]`;
  const where = `of group ${group.name} (${group.description}), rank ${rank} of ${ranks}`;
  return [
    `  ${op}${number} ${where}, ${state}, called ${seconds} s ago`,
    ...frames.map((frame) => frameLine(frame, "    ")),
  ];
}

/** The frames of user code on the stack of this thread. */
function ownStack(): string[] {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = MAX_FRAMES;
  const site = new Error("here");
  Error.stackTraceLimit = limit;
  return framesOf(site).map((frame) => frameLine(frame, "  "));
}

/** In Python's form. */
function frameLine({ file, line, name }: Frame, indent: string): string {
  return `${indent}File "${file}", line ${line} in ${name || "<module>"}`;
}
