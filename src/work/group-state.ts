/**
 * OPEN → FAILED → CLOSED. An op time-out, an abort or a transport error makes a group FAILED: queued ops reject with
 * the first cause, new ops reject with advice. CLOSED groups accept no ops.
 */
export type GroupState = "OPEN" | "FAILED" | "CLOSED";
