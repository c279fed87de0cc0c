import { msUntil, startTimer } from "../time/index.ts";
import type { KeyWaiters } from "./key-waiters.ts";
import { storeTimeout } from "./store.ts";

/** What is waited for, and how long. */
export interface WaitRequest {
  readonly op: string;
  readonly keys: readonly string[];
  /** The limit as the caller gave it, for the message. */
  readonly limitMs: number;
  /** When it ends, on the clock of `performance.now()`. */
  readonly deadline: number;
  readonly signal: AbortSignal | undefined;
  /** The keys as the waiters know them, where these differ from those of the caller. */
  readonly tableKeys?: readonly string[];
}

/** The waits of one store handle: each ends by its keys, its time-out, its signal, or with the handle. */
export class PendingWaits {
  readonly #fails = new Set<(error: unknown) => void>();

  get size(): number {
    return this.#fails.size;
  }

  /** Resolves at a moment when all keys are present. */
  add(waiters: KeyWaiters, request: WaitRequest): Promise<void> {
    const { op, keys, limitMs, deadline, signal, tableKeys = keys } = request;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const finish = () => {
      timer[Symbol.dispose]();
      this.#fails.delete(fail);
      signal?.removeEventListener("abort", abort);
    };
    const fail = (error: unknown) => {
      finish();
      cancel();
      reject(error);
    };
    const abort = () => fail(signal?.reason);
    const timer = startTimer(msUntil(deadline), () => {
      const missing = new Set(waiters.missing(tableKeys));
      fail(
        storeTimeout(
          op,
          keys.filter((_, i) => missing.has(tableKeys[i] ?? "")),
          limitMs,
        ),
      );
    });
    this.#fails.add(fail);
    signal?.addEventListener("abort", abort, { once: true });
    const cancel = waiters.add(tableKeys, () => {
      finish();
      resolve();
    });
    return promise;
  }

  /** Ends all waits with `error`. */
  fail(error: unknown): void {
    for (const fail of this.#fails) fail(error);
  }
}
