/** Longest delay that a timer takes: 2^31 - 1 ms. */
const longestDelay = 0x7fff_ffff;

/** Calls `expire` after `ms` milliseconds (never for Infinity) and holds the process until then; returns the stop. */
export function startDeadline(ms: number, expire: () => void): () => void {
  let left = ms;
  let timer: ReturnType<typeof setTimeout>;
  const arm = () => {
    const delay = Math.min(left, longestDelay);
    left -= delay;
    timer = setTimeout(() => (left > 0 ? arm() : expire()), delay);
  };
  arm();
  return () => clearTimeout(timer);
}

/** Resolves after `ms`, or rejects with the reason of `signal`. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  if (signal?.aborted) return Promise.reject(signal.reason);
  const abort = () => {
    clearTimeout(timer);
    reject(signal?.reason);
  };
  const timer = setTimeout(() => {
    signal?.removeEventListener("abort", abort);
    resolve();
  }, ms);
  signal?.addEventListener("abort", abort, { once: true });
  return promise;
}

/** The outcome of `pending`; the error that `expire` makes when it takes longer than `ms`; or the reason of `signal`. */
export async function withLimit<T>(
  pending: PromiseLike<T> | T,
  ms: number,
  expire: () => unknown,
  signal?: AbortSignal,
): Promise<T> {
  const { promise: ended, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal?.reason);
  const stop = startDeadline(ms, () => reject(expire()));
  signal?.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([pending, ended]);
  } finally {
    stop();
    signal?.removeEventListener("abort", abort);
  }
}
