import { type Fault, isSilent, type Mode } from "./cell.ts";

/** Class and code of an error, as on the page of faults. */
export type ErrorKind = "DistNetworkError PEER_LOST" | "DistTimeoutError OP_TIMEOUT";

/** What the survivors of a fault may get. */
export function expectedErrors(fault: Fault, mode: Mode): readonly ErrorKind[] {
  if (!isSilent(fault)) return ["DistNetworkError PEER_LOST"];
  // A rank that blocks cannot ask the others: if another rank timed out first, it only sees that one leave.
  return mode === "await"
    ? ["DistTimeoutError OP_TIMEOUT"]
    : ["DistTimeoutError OP_TIMEOUT", "DistNetworkError PEER_LOST"];
}
