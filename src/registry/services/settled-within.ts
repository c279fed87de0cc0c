import { DistTimeoutError, type ErrorDetails } from "../../errors/index.ts";
import { type Clock, scheduleOn } from "./clock.ts";

/**
 * How much longer than its time-out third-party code may take: the error that it reports itself says more than ours.
 * Counted from when this thread sees the time-out expire, since a suspended process could not report anything before.
 */
export const GRACE_MS = 1_000;

/** How long code of a plugin or of a middleware may take. */
export interface SettleLimit {
  /** `Infinity` for none. */
  readonly limitMs: number;
  /** What is added to it; {@link GRACE_MS} if absent. */
  readonly graceMs?: number;
  readonly clock: Clock;
  /** For the error: the group that waits, for instance. */
  readonly details?: ErrorDetails;
}

const overdue = new WeakSet<object>();

/** Whether an error is a time-out of {@link settledWithin} itself, rather than of the code that it called. */
export function isOverdue(error: unknown): boolean {
  return typeof error === "object" && error !== null && overdue.has(error);
}

/**
 * Calls third-party code and awaits its result, within a time-out.
 *
 * @param what For the error: the method and its owner, e.g. `create() of backend "ring"`.
 * @param dispose Disposes of a result that comes too late; errors that it throws or rejects with are ignored.
 * @throws DistTimeoutError (`CONNECT_TIMEOUT`) when the time-out has expired.
 */
export async function settledWithin<T>(
  what: string,
  call: () => T | PromiseLike<T>,
  { limitMs, graceMs = GRACE_MS, clock, details = {} }: SettleLimit,
  dispose: (late: T) => unknown = () => {},
): Promise<T> {
  const returned = call();
  if (!isThenable(returned) || limitMs === Number.POSITIVE_INFINITY) return returned;
  const { promise: limit, reject } = Promise.withResolvers<never>();
  let isLate = false;
  const expire = (): void => {
    isLate = true;
    const group = details.group === undefined ? "" : `group "${details.group}": `;
    const text = `${group}${what} has neither resolved nor rejected within its limit of ${limitMs} ms, nor in the ${graceMs} ms after it`;
    const error = new DistTimeoutError(text, { ...details, code: "CONNECT_TIMEOUT", timeoutMs: limitMs });
    overdue.add(error);
    reject(error);
  };
  let timer = scheduleOn(clock, limitMs, () => {
    timer = scheduleOn(clock, graceMs, expire);
  });
  using _timer = { [Symbol.dispose]: () => timer[Symbol.dispose]() };
  // The `then` of a third-party thenable might throw.
  const settled = new Promise<T>((resolve) => resolve(returned));
  settled
    .then(
      async (value) => {
        if (isLate) await dispose(value);
      },
      () => {},
    )
    .catch(() => {});
  return await Promise.race([settled, limit]);
}

function isThenable<T>(value: T | PromiseLike<T>): value is PromiseLike<T> {
  return typeof value === "object" && value !== null && "then" in value;
}
