import { msUntil, startTimer } from "../../../time/index.ts";
import type { CallLimit } from "./call.ts";
import type { PendingWait, WaitOutcome } from "./pending-wait.ts";

/** How long a server may take to answer a cancellation before it counts as dead. */
export const cancelGraceMs = 250;

/** How a wait ended: `expired` if it timed out, `silent` if the server then did not answer the cancellation either. */
export type WaitEnd = WaitOutcome | "expired" | "silent";

/** Waits for the end of a WAIT, within the limit. */
export async function settle(wait: PendingWait, limit: CallLimit): Promise<WaitEnd> {
  const silent = Symbol("silent");
  let expired = false;
  let grace: ReturnType<typeof setTimeout> | undefined;
  const abort = () => wait.abandon(limit.signal?.reason);
  limit.signal?.addEventListener("abort", abort, { once: true });
  const timer = startTimer(msUntil(limit.deadline), () => {
    expired = true;
    wait.cancel();
    grace = setTimeout(() => wait.abandon(silent), cancelGraceMs);
  });
  try {
    const outcome = await wait.outcome;
    return outcome === "cancelled" && expired ? "expired" : outcome;
  } catch (error) {
    if (error === silent) return "silent";
    throw error;
  } finally {
    timer[Symbol.dispose]();
    clearTimeout(grace);
    limit.signal?.removeEventListener("abort", abort);
  }
}

/** A limit that begins now. */
export function callLimit(options: { readonly signal?: AbortSignal | undefined }, ms: number): CallLimit {
  const began = performance.now();
  return { began, deadline: began + ms, ms, signal: options.signal };
}
