import { currentStream, placeOf } from "./cuda-stream.ts";
import { type CudaDeviceLike, ordinalOf } from "./device-ordinal.ts";
import { blockUntilDone, type WaitOptions, whenDone } from "./device-wait.ts";
import { giveMark, isEventDone, type Mark, mark } from "./raw-events.ts";
import { pooledStreamsOf } from "./stream-pool.ts";

/**
 * Waits until what is now in the streams of a device is done, without blocking this thread: in its default stream, in
 * those that this thread has made, and in its current one. An op in flight is waited for by its Work, and other streams
 * of other libraries by `cuda.foreignStream(…).synchronize()`.
 *
 * @param device The current device by default.
 * @throws DistTimeoutError (`WAIT_TIMEOUT`), after which the work goes on; CudaError if it failed.
 *
 * c10d: `torch.cuda.synchronize`.
 */
export async function synchronize(device?: CudaDeviceLike, options?: WaitOptions): Promise<void> {
  const marks = marksOf("cuda.synchronize", device);
  try {
    await whenDone("cuda.synchronize", options, () => areDone(marks));
  } finally {
    for (const each of marks) giveMark(each);
  }
}

/** {@link synchronize}, blocking this thread. */
export function synchronizeSync(device?: CudaDeviceLike, options?: WaitOptions): void {
  const marks = marksOf("cuda.synchronizeSync", device);
  try {
    blockUntilDone("cuda.synchronizeSync", options, () => areDone(marks));
  } finally {
    for (const each of marks) giveMark(each);
  }
}

/** Where the streams of a device are now. */
function marksOf(caller: string, which: CudaDeviceLike | undefined): Mark[] {
  const device = ordinalOf(caller, which);
  const handles = new Set([0, placeOf(currentStream(device)).handle, ...pooledStreamsOf(device)]);
  return Array.from(handles, (handle) => mark({ device, handle }));
}

/** Takes away those that have been reached, so that they are not asked again. */
function areDone(marks: Mark[]): boolean {
  for (let last = marks.at(-1); last !== undefined && isEventDone(last); last = marks.at(-1)) {
    giveMark(last);
    marks.pop();
  }
  return marks.length === 0;
}
