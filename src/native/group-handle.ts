import { type Pointer, ptr } from "bun:ffi";
import { DistBackendError, shortageOfErrno, withShortage } from "../errors/index.ts";
import { type Device, deviceTypeCodes } from "../tensor/index.ts";
import { ConfigLayout, Status } from "./abi.generated.ts";
import type { Shim } from "./library.ts";
import { ownFailure, readFailure } from "./native-failure.ts";
import { WORKER_OPTIONS } from "./worker-guard.ts";

const encoder = new TextEncoder();
const NO_REASON = ownFailure(Status.BACKEND, "c10d_create failed without a reason");

export interface NativeGroupConfig {
  readonly rank: number;
  readonly worldSize: number;
  readonly device: Device;
  /** Time-out of connecting, in milliseconds; Infinity for none. */
  readonly timeoutMs: number;
  readonly options: Readonly<Record<string, string>>;
  /** The color of this rank, if the group is split from another one; negative if the rank is to be in none. */
  readonly color?: number | undefined;
  /** Cancels the creation of the group; its reason says why. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * A new native group, which connects on a thread of its own.
 * @param parent The open group that it is split from, if any.
 * @throws DistBackendError if the shim refuses it.
 */
export function createGroupHandle(shim: Shim, config: NativeGroupConfig, parent?: Pointer): Pointer {
  const bytes = new ArrayBuffer(ConfigLayout.SIZE);
  const view = new DataView(bytes);
  const options = encoder.encode(
    Object.entries({ ...config.options, ...WORKER_OPTIONS })
      .map(([key, value]) => `${key}=${value}\0`)
      .join(""),
  );
  void options.buffer; // From now on its address is fixed.
  view.setUint32(ConfigLayout.size, ConfigLayout.SIZE, true);
  view.setInt32(ConfigLayout.rank, config.rank, true);
  view.setInt32(ConfigLayout.worldSize, config.worldSize, true);
  view.setUint32(ConfigLayout.deviceType, deviceTypeCodes[config.device.type], true);
  view.setInt32(ConfigLayout.deviceIndex, config.device.index, true);
  view.setInt32(ConfigLayout.color, config.color ?? 0, true);
  view.setFloat64(ConfigLayout.timeoutMs, config.timeoutMs, true);
  view.setBigUint64(ConfigLayout.options, BigInt(options.length === 0 ? 0 : ptr(options)), true);
  view.setBigUint64(ConfigLayout.optionsBytes, BigInt(options.length), true);
  const { symbols } = shim;
  const handle = parent === undefined ? symbols.c10d_create(bytes) : symbols.c10d_split(parent, bytes);
  if (handle === null) {
    const failure = readFailure((record) => shim.symbols.c10d_last_failure(record), config.worldSize) ?? NO_REASON;
    const shortage = shortageOfErrno(failure.systemError, descriptorsFor(config.worldSize));
    const message = `backend "${shim.name}": ${failure.text}`;
    throw new DistBackendError(shortage ? withShortage(message, shortage) : message, {
      ...(shortage && { code: shortage.code }),
      backend: shim.name,
    });
  }
  return handle;
}

/** About how many descriptors a process needs for a group of that many ranks, including all else that it has open. */
export function descriptorsFor(worldSize: number): number {
  return 24 + 2 * worldSize;
}
