import type { Backend } from "../contracts/backend.ts";

/**
 * Aborts a helper group when its group has ended. If that was closed, which is not a failure, a helper without ops in
 * flight is only closed, later: aborting resets connections, and a rank that is still making its helper would take that
 * for a failure.
 */
export function abortHelper(helper: Backend, reason: string, isClosed: boolean): void {
  if (!isClosed || helper.inFlight > 0) helper.abort(reason);
}
