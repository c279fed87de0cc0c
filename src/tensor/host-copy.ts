import { type Pointer, toArrayBuffer } from "bun:ffi";
import { cuda } from "./cuda.ts";
import type { Stream } from "./device.ts";
import { bytesOf } from "./memory.ts";
import type { TensorView } from "./tensor-view.ts";

/**
 * The bytes of a tensor, to be read at once: in place if they are in host memory, else copied from the device in a
 * stream, by default its current one, which blocks this thread until the stream gets there.
 *
 * @throws what the copy throws, such as BackendUnavailableError without a driver.
 */
export function bytesOnHost(view: TensorView, stream?: Stream): Uint8Array {
  const { data, ptr, byteLength, dtype, device, source } = view;
  if (data !== undefined) return bytesOf(data);
  if (byteLength === 0) return new Uint8Array(0);
  if (device.type === "cpu") return new Uint8Array(toArrayBuffer(ptr as Pointer, 0, byteLength));
  using memory = cuda.foreign({ ptr, byteLength, dtype, device, owner: source });
  const after = stream === undefined ? cuda.currentStream(device) : cuda.foreignStream(stream.handle, device);
  if (source instanceof cuda.CudaTensor) source.recordStream(after);
  return memory.as("uint8").slice(0).toHostSync({ stream: after });
}
