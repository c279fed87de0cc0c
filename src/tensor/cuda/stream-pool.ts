import { describe, InvalidArgumentError } from "../../errors/index.ts";
import { onDevice } from "./contexts.ts";
import { requireSuccess, signed, wide, words } from "./driver.ts";
import { isStreamDone } from "./raw-events.ts";

/** How urgent the work of a stream is; of numbers, the least are the most urgent. */
export type StreamPriority = "high" | "normal" | number;

export interface PooledStream {
  readonly handle: number;
  readonly device: number;
  readonly priority: number;
}

const NON_BLOCKING = 1;

/**
 * Streams that nobody uses. They are never destroyed: a Work or a freed tensor may still refer to a stream by its
 * handle. PyTorch does the same.
 */
const idle: PooledStream[] = [];

/** Handles of all of them, in use or not, by device. */
const made: number[][] = [];

/** Handles of the streams of a device that this thread has made. */
export function pooledStreamsOf(device: number): readonly number[] {
  return made[device] ?? [];
}

/** A stream of a device: an idle one whose work is done, or a new one. */
export function takePooledStream(device: number, priority: StreamPriority | undefined): PooledStream {
  const wanted = numberOf(device, priority);
  const at = idle.findIndex((each) => {
    return each.device === device && each.priority === wanted && isStreamDone(device, each.handle);
  });
  const [known] = at < 0 ? [] : idle.splice(at, 1);
  if (known !== undefined) return known;
  const result = words(2);
  requireSuccess(
    onDevice(device, (symbols) => symbols.cuStreamCreateWithPriority(result, NON_BLOCKING, wanted)),
    "cuStreamCreateWithPriority",
  );
  const handle = wide(result);
  made[device] = [...pooledStreamsOf(device), handle];
  return { handle, device, priority: wanted };
}

export function givePooledStream(stream: PooledStream): void {
  idle.push(stream);
}

/** CUDA's number, within the range of the device: its limits are 0 and below, or 0 and 0 if it has no priorities. */
function numberOf(device: number, priority: StreamPriority = "normal"): number {
  if (priority === "normal") return 0;
  if (priority !== "high" && !Number.isInteger(priority)) {
    throw new InvalidArgumentError(
      `CudaStream: priority must be "high", "normal" or a whole number, got ${describe(priority)}`,
      { argument: "priority" },
    );
  }
  const [least, greatest] = [words(2), words(2)];
  requireSuccess(
    onDevice(device, (symbols) => symbols.cuCtxGetStreamPriorityRange(least, greatest)),
    "cuCtxGetStreamPriorityRange",
  );
  const [last, first] = [signed(least), signed(greatest)];
  return priority === "high" ? first : Math.min(last, Math.max(first, priority));
}
