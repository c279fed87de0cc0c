/**
 * OPEN → FAILED → CLOSED. An op time-out, an abort or a transport error makes a group FAILED: what is queued rejects
 * with the first cause, new ops reject with advice. CLOSED groups take nothing.
 */
export type GroupState = "OPEN" | "FAILED" | "CLOSED";
