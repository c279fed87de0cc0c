/** Uncorrectable errors of memory and links; addresses, time-outs, asserts and instructions of kernels; a destroyed context. */
const lost: ReadonlySet<number> = new Set([214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719]);

/** Whether a `CUresult` says that a kernel or the hardware failed, after which the context of the device is of no use. */
export function lostContext(code: number): boolean {
  return lost.has(code);
}

/** What to do then, for messages. */
export const CONTEXT_LOST =
  "Work on the device failed, now or before this call, and its context is lost: start the process again. " +
  "compute-sanitizer finds a kernel that accesses wrong memory";
