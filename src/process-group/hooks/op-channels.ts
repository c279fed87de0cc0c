import type { Channel, TracingChannel } from "node:diagnostics_channel";
import type { DistError } from "../../errors/index.ts";
import type { Work, WorkInfo } from "../../work/index.ts";
import type { AbortHookEvent, PreHookEvent } from "./op-hooks.ts";

/**
 * What the channels of an op carry: one object per op, to which more is added as it goes on. `start` is published
 * before the op is submitted, `end` after that, `asyncStart` and `asyncEnd` when it has ended, and `error` before
 * those if it has failed.
 */
export interface OpMessage extends PreHookEvent {
  /** From `end` on. */
  work?: Work<unknown>;
  /** From `asyncStart` on. */
  info?: WorkInfo;
  /** From `error` on. */
  error?: DistError;
}

/** The channels of `node:diagnostics_channel` on which all groups of the process publish. */
export interface OpChannels {
  readonly op: TracingChannel<OpMessage>;
  readonly abort: Channel<AbortHookEvent>;
}

let channels: OpChannels | undefined;

/**
 * The channels of `node:diagnostics_channel` on which the groups publish, made at the first call: loading that module
 * takes a millisecond. They are kept, since Bun collects channels that nothing refers to together with their
 * subscribers.
 *
 * ```ts
 * opChannels().op.asyncEnd.subscribe((message) => {
 *   const { op, seq, error } = message as OpMessage;
 *   console.log(op, seq, error?.message);
 * });
 * ```
 */
export function opChannels(): OpChannels {
  if (channels === undefined) {
    const { channel, tracingChannel } = process.getBuiltinModule("node:diagnostics_channel");
    channels = { op: tracingChannel("bun-c10d.op"), abort: channel("bun-c10d.group.abort") };
  }
  return channels;
}
