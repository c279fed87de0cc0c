import { type Fault, isSilent, type Mode } from "./cell.ts";

/** Class and code of an error, as the page of faults writes them. */
export type ErrorKind = "DistNetworkError PEER_LOST" | "DistTimeoutError OP_TIMEOUT";

/** What the survivors of a fault may get. */
export function expectedErrors(fault: Fault, mode: Mode): readonly ErrorKind[] {
  if (!isSilent(fault)) return ["DistNetworkError PEER_LOST"];
  // A rank that blocks cannot ask the others: where another rank's time ran out first, it only sees that one leave.
  return mode === "await"
    ? ["DistTimeoutError OP_TIMEOUT"]
    : ["DistTimeoutError OP_TIMEOUT", "DistNetworkError PEER_LOST"];
}
