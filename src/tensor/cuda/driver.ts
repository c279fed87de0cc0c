import { CString, type Pointer } from "bun:ffi";
import { BackendUnavailableError, CONTEXT_LOST, CudaError, type CudaFailure, lostContext } from "../../errors/index.ts";
import { loadCudaLibrary } from "./cuda-library.ts";
import { type DriverSymbols, Result } from "./driver-symbols.ts";

/** The initialised driver. */
export interface Driver {
  readonly path: string;
  /** The CUDA version that it supports, such as `"12.8"`. */
  readonly version: string;
  readonly deviceCount: number;
  readonly symbols: DriverSymbols;
}

let known: Driver | undefined;

/**
 * The driver; loaded and initialised on the first call of this thread.
 * @throws BackendUnavailableError if there is no driver (`NO_CUDA_DRIVER`) or no device (`NO_CUDA_DEVICE`), CudaError if
 *   the driver does not start.
 */
export function driver(): Driver {
  known ??= start();
  return known;
}

/** Whether code of this thread has used the driver. */
export function isDriverInUse(): boolean {
  return known !== undefined;
}

function start(): Driver {
  const { path, symbols } = loadCudaLibrary();
  const version = words(2);
  requireSuccess(symbols.cuDriverGetVersion(version), "cuDriverGetVersion", symbols);
  const encoded = signed(version, 0);
  const status = symbols.cuInit(0);
  const count = words(2);
  if (status === Result.SUCCESS) requireSuccess(symbols.cuDeviceGetCount(count), "cuDeviceGetCount", symbols);
  if (status === Result.NO_DEVICE || (status === Result.SUCCESS && signed(count, 0) === 0)) {
    throw new BackendUnavailableError(
      `CUDA: the driver (${path}) sees no device\nnvidia-smi lists those of this machine; CUDA_VISIBLE_DEVICES may hide them, and a container needs --gpus.`,
      { code: "NO_CUDA_DEVICE" },
    );
  }
  requireSuccess(status, "cuInit", symbols);
  const minor = Math.floor((encoded % 1000) / 10);
  return { path, symbols, version: `${Math.floor(encoded / 1000)}.${minor}`, deviceCount: signed(count, 0) };
}

/** Memory for results of the driver: `n` words of 32 bits. */
export function words(n: number): Uint32Array<ArrayBuffer> {
  return new Uint32Array(new ArrayBuffer(4 * n));
}

/** A 64-bit number that the driver wrote: an address, a handle or a size. */
export function wide(result: Uint32Array, at = 0): number {
  return (result[at + 1] ?? 0) * 2 ** 32 + (result[at] ?? 0);
}

/** An `int` that the driver wrote. */
export function signed(result: Uint32Array, at = 0): number {
  return (result[at] ?? 0) | 0;
}

/** Throws CudaError unless a call of the driver succeeded. */
export function requireSuccess(status: number, call: string, symbols: DriverSymbols = driver().symbols): void {
  if (status !== Result.SUCCESS) throw cudaError(failureOf(status, call, symbols));
}

/** CUDA's name and text of a `CUresult`. */
export function failureOf(code: number, call: string, symbols: DriverSymbols = driver().symbols): CudaFailure {
  const address = words(2);
  const textFrom = (status: number): string | undefined =>
    status === Result.SUCCESS && wide(address) !== 0 ? String(new CString(wide(address) as Pointer)) : undefined;
  const name = textFrom(symbols.cuGetErrorName(code, address)) ?? `CUresult ${code}`;
  const text = textFrom(symbols.cuGetErrorString(code, address)) ?? "an error that this driver has no text for";
  return { code, name, text, call };
}

/** The error for a failed call; `what` says what was to be done, where the call does not. */
export function cudaError(failure: CudaFailure, what = "CUDA"): CudaError {
  const { code, name, text, call } = failure;
  const isLost = lostContext(code);
  const advice = isLost ? CONTEXT_LOST : (adviceOn.get(code) ?? DEFAULT_ADVICE);
  return new CudaError(`${what}: ${call} failed with ${name} (${code}): ${text}. ${advice}`, {
    cuda: failure,
    ...(isLost && { code: "CUDA_CONTEXT_LOST" }),
    ...(code === Result.OUT_OF_MEMORY && { code: "OUT_OF_MEMORY" }),
  });
}

const DEFAULT_ADVICE = "dmesg and nvidia-smi may have more";
const adviceOn: ReadonlyMap<number, string> = new Map<number, string>([
  [Result.INVALID_VALUE, "An address or a size is not what the driver expects"],
  [Result.OUT_OF_MEMORY, "Dispose of tensors, call cuda.emptyCache(), or use less memory"],
  [Result.NOT_INITIALIZED, "The driver did not start; nvidia-smi may say why"],
  [Result.DEINITIALIZED, "The process is ending, and the driver with it"],
  [
    Result.STUB_LIBRARY,
    "This is the library of the CUDA toolkit for linking: leave its stubs folder out of LD_LIBRARY_PATH",
  ],
  [Result.DEVICE_UNAVAILABLE, "Another process has the device for itself; nvidia-smi shows its compute mode"],
  [Result.INVALID_DEVICE, "cuda.deviceCount() says how many devices there are"],
  [Result.INVALID_CONTEXT, "A library of this process has reset the device"],
  [Result.INVALID_HANDLE, "A stream or an event is from another device, or was destroyed by whoever made it"],
  [Result.SYSTEM_NOT_READY, "Start nvidia-fabricmanager, which this machine needs"],
  [
    Result.SYSTEM_DRIVER_MISMATCH,
    "The kernel's driver and its library have different versions: restart the machine after an update",
  ],
  [
    Result.COMPAT_NOT_SUPPORTED_ON_DEVICE,
    "Leave the forward compatibility package out of LD_LIBRARY_PATH, or update the driver",
  ],
]);
