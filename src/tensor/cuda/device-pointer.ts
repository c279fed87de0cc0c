import { InvalidArgumentError } from "../../errors/index.ts";
import type { TensorView } from "../tensor-view.ts";
import { onDevice } from "./contexts.ts";
import { requireOrdinal } from "./device-ordinal.ts";
import { signed, words } from "./driver.ts";

const MEMORY_TYPE = 2;
const DEVICE_ORDINAL = 9;
/** Values of `CUmemorytype`. */
const HOST = 1;

/** @throws InvalidArgumentError unless a foreign tensor begins and ends in memory of the device that it names. */
export function requireDevicePointer(caller: string, { ptr, byteLength, device }: TensorView): void {
  requireOrdinal(caller, device.index);
  if (byteLength === 0) return;
  for (const address of [ptr, ptr + byteLength - 1]) {
    const which = address === ptr ? "ptr" : "the end of its memory";
    const fail = (reason: string): never => {
      throw new InvalidArgumentError(
        `${caller}: ${which} (0x${address.toString(16)}) ${reason}, not memory of cuda:${device.index}`,
        { argument: "ptr", code: "NOT_DEVICE_MEMORY" },
      );
    };
    const type = attributeOf(address, MEMORY_TYPE, device.index);
    if (type === undefined) fail("is unknown to CUDA");
    if (type === HOST) fail("is page-locked host memory");
    const index = attributeOf(address, DEVICE_ORDINAL, device.index);
    if (index !== device.index) fail(`is memory of cuda:${index}`);
  }
}

/** An attribute of an address; undefined if CUDA does not know it. */
function attributeOf(address: number, attribute: number, device: number): number | undefined {
  const value = words(2);
  const status = onDevice(device, (symbols) => symbols.cuPointerGetAttribute(value, attribute, address));
  return status === 0 ? signed(value) : undefined;
}
