import { DistTimeoutError, messageOf, warn } from "../../errors/index.ts";
import type { Backend } from "../../registry/index.ts";
import { startTimer } from "../../time/index.ts";
import { userCodeFailure } from "./user-code-failure.ts";

/** How long a part of a group may take to close, in milliseconds; the contract requires one second. */
export const CLOSE_LIMIT_MS = 10_000;

/** What is closed, for errors. */
export interface Closing {
  readonly group: string;
  /** Such as `backend "ring"`. */
  readonly what: string;
  readonly backend: string;
}

/**
 * Closes something that may be user code, and abandons it when it takes too long. In real time: the clock of a
 * container applies only to the time-outs of ops.
 *
 * @throws DistTimeoutError (`CLOSE_TIMEOUT`), or the error of `close`, wrapped by {@link userCodeFailure}.
 */
export async function closeWithin(closing: Closing, close: () => unknown): Promise<void> {
  try {
    await closedInTime(closing, close);
  } catch (error) {
    throw userCodeFailure(`closing ${closing.what}`, closing, error);
  }
}

async function closedInTime({ group, what, backend }: Closing, close: () => unknown): Promise<void> {
  const { promise: limit, reject } = Promise.withResolvers<never>();
  // Before the call, whose synchronous part counts too.
  using _timer = startTimer(CLOSE_LIMIT_MS, () => {
    const text = `group "${group}": ${what} did not close within ${CLOSE_LIMIT_MS} ms and was abandoned`;
    reject(new DistTimeoutError(text, { code: "CLOSE_TIMEOUT", group, backend, timeoutMs: CLOSE_LIMIT_MS }));
  });
  await Promise.race([(async () => close())(), limit]);
}

/** Closes something while another error is already on its way: an error in closing becomes a warning. Never rejects. */
export async function closeQuietly(closed: { close(): Promise<void> }, group: string): Promise<void> {
  try {
    await closed.close();
  } catch (error) {
    warn(`closing group "${group}" failed: ${messageOf(error)}`);
  }
}

/** Aborts and closes a backend without a group, like {@link closeQuietly}. It may be anything that a plugin made. */
export async function endBackend(backend: Backend, name: string, group: string, reason: string): Promise<void> {
  const what = `backend "${name}"`;
  const failed = (method: string) => (error: unknown) => {
    warn(`group "${group}": ${method} of ${what} failed: ${messageOf(error)}`);
  };
  // An abort() that hangs must not prevent close(). In async functions, since reading a method may throw, too.
  void (async () => {
    if (typeof backend?.abort === "function") await backend.abort(reason);
  })().catch(failed("abort()"));
  const close = () => (typeof backend?.close === "function" ? backend.close() : undefined);
  await closedInTime({ group, what, backend: name }, close).catch(failed("close()"));
}
