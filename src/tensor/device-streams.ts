import type { Device, DeviceType, Stream } from "./device.ts";

/** The current streams of this thread by device. Empty until code of a device sets one: nothing is loaded for this. */
const streams: { readonly [type in DeviceType]: (Stream | undefined)[] } = { cpu: [], cuda: [] };

/** The stream that ops on a device use; undefined for the default stream, and for the CPU. */
export function currentStreamOf({ type, index }: Device): Stream | undefined {
  return streams[type][index];
}

/** Sets the current stream of a device in this thread; undefined for its default stream. */
export function setCurrentStreamOf({ type, index }: Device, stream: Stream | undefined): void {
  streams[type][index] = stream;
}
