import { onDevice } from "./contexts.ts";
import { cudaError, failureOf, requireSuccess, wide, words } from "./driver.ts";
import { Result } from "./driver-symbols.ts";

const DISABLE_TIMING = 2;

/** Creates an event on a device. */
export function createEvent(device: number, isTimed: boolean): number {
  const result = words(2);
  requireSuccess(
    onDevice(device, (symbols) => symbols.cuEventCreate(result, isTimed ? 0 : DISABLE_TIMING)),
    "cuEventCreate",
  );
  return wide(result);
}

/** Whether the work before an event's last record is done. Throws CudaError if it failed. */
export function isEventDone({ device, event }: Mark): boolean {
  return isReady(
    onDevice(device, (symbols) => symbols.cuEventQuery(event)),
    "cuEventQuery",
  );
}

/** Whether nothing is left to do in a stream of a device. Throws CudaError if its work failed. */
export function isStreamDone(device: number, stream: number): boolean {
  return isReady(
    onDevice(device, (symbols) => symbols.cuStreamQuery(stream)),
    "cuStreamQuery",
  );
}

function isReady(status: number, call: string): boolean {
  if (status === Result.SUCCESS) return true;
  if (status === Result.NOT_READY) return false;
  throw cudaError(failureOf(status, call));
}

/** A stream, by its handle; 0 is the default stream of the device. */
export interface StreamPlace {
  readonly device: number;
  readonly handle: number;
}

/** An event of a device. */
export interface Mark {
  readonly device: number;
  readonly event: number;
}

/** Events that are not in use, by device. */
const idle: number[][] = [];

/** Records what is in a stream now, in an event of the pool; to be given back by {@link giveMark}. */
export function mark({ device, handle }: StreamPlace): Mark {
  const event = idle[device]?.pop() ?? createEvent(device, false);
  requireSuccess(
    onDevice(device, (symbols) => symbols.cuEventRecord(event, handle)),
    "cuEventRecord",
  );
  return { device, event };
}

/** Takes back an event. It may still be pending: recording it anew replaces what it was for. */
export function giveMark({ device, event }: Mark): void {
  const list = idle[device] ?? [];
  idle[device] = list;
  list.push(event);
}

/** Makes a stream wait for what an event recorded, which may be of another device. */
export function waitForMark({ device, handle }: StreamPlace, { event }: Mark): void {
  requireSuccess(
    onDevice(device, (symbols) => symbols.cuStreamWaitEvent(handle, event, 0)),
    "cuStreamWaitEvent",
  );
}

/** Makes a stream wait for what is in another one now, which may be of another device. */
export function orderStreams(first: StreamPlace, second: StreamPlace): void {
  if (first.device === second.device && first.handle === second.handle) return;
  const place = mark(first);
  waitForMark(second, place);
  // The wait is for the record that it was called after.
  giveMark(place);
}
