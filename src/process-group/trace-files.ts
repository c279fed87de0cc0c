import { messageOf, warn } from "../errors/index.ts";
import type { FlightRecorder } from "../recorder/index.ts";
import type { Logger } from "../registry/index.ts";

/** Why a rank writes its flight recorder. */
export interface TraceReason {
  readonly recorder: FlightRecorder;
  readonly globalRank: number;
  /** What has happened, for messages. */
  readonly what: string;
  /** Is told where the files are. */
  readonly logger: Logger | undefined;
}

/** What has kept a flight recorder from being written, which is said once. */
const reported = new WeakMap<FlightRecorder, string>();

/** Writes the flight recorder to the files that the environment names, if it does. Never throws. */
export function writeTraceFiles({ recorder, globalRank, what, logger }: TraceReason): void {
  try {
    const paths = recorder.writeFiles(globalRank);
    if (paths.length === 0) return;
    logger?.warn(`${what}; the flight recorder is in ${paths.join(" and ")}; c10d trace compares those of all ranks`);
  } catch (error) {
    const reason = messageOf(error);
    if (reported.get(recorder) === reason) return;
    reported.set(recorder, reason);
    // Not logged: a folder that cannot be written to must be noticed.
    warn(`${what}, but the flight recorder could not be written: ${reason}`, "TRACE_NOT_WRITTEN");
  }
}
