import { startTimer } from "./timer.ts";

/** Milliseconds until a moment on the clock of `performance.now()`; 0 when it has passed. */
export function msUntil(deadline: number): number {
  return Math.max(deadline - performance.now(), 0);
}

/** Resolves after `ms`, or rejects with the reason of `signal`. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  if (signal?.aborted) return Promise.reject(signal.reason);
  const abort = () => {
    timer[Symbol.dispose]();
    reject(signal?.reason);
  };
  const timer = startTimer(ms, () => {
    signal?.removeEventListener("abort", abort);
    resolve();
  });
  signal?.addEventListener("abort", abort, { once: true });
  return promise;
}

/** Settles as `pending`; rejects with the error of `expire` after `ms`, or with the reason of `signal`. */
export async function withLimit<T>(
  pending: PromiseLike<T> | T,
  ms: number,
  expire: () => unknown,
  signal?: AbortSignal,
): Promise<T> {
  const { promise: ended, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal?.reason);
  const timer = startTimer(ms, () => reject(expire()));
  signal?.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([pending, ended]);
  } finally {
    timer[Symbol.dispose]();
    signal?.removeEventListener("abort", abort);
  }
}
