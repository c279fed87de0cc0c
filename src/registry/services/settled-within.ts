import { DistTimeoutError, type ErrorDetails } from "../../errors/index.ts";
import { type Clock, scheduleOn } from "./clock.ts";

/**
 * How much longer than its limit code of others may take: the error that it reports itself says more than ours. Counted from when
 * this thread finds the limit over, since a process that has stood still could not report anything before.
 */
export const GRACE_MS = 1_000;

/** How long code of a plugin or of a middleware may take. */
export interface SettleLimit {
  /** `Infinity` for none. {@link GRACE_MS} is added to it. */
  readonly limitMs: number;
  readonly clock: Clock;
  /** For the error: the group that waits, for instance. */
  readonly details?: ErrorDetails;
}

const overdue = new WeakSet<object>();

/** Whether an error says that a limit has run out in {@link settledWithin}, rather than in the code that was called. */
export function isOverdue(error: unknown): boolean {
  return typeof error === "object" && error !== null && overdue.has(error);
}

/**
 * Calls code of others and waits for what it promises, within a limit.
 *
 * @param what For the error: the method and whose it is, e.g. `create() of backend "ring"`.
 * @param dispose Gets rid of what comes too late; what it throws or rejects with is ignored.
 * @throws DistTimeoutError (`CONNECT_TIMEOUT`) when the limit has run out.
 */
export async function settledWithin<T>(
  what: string,
  call: () => T | PromiseLike<T>,
  { limitMs, clock, details = {} }: SettleLimit,
  dispose: (late: T) => unknown = () => {},
): Promise<T> {
  const returned = call();
  if (!isThenable(returned) || limitMs === Number.POSITIVE_INFINITY) return returned;
  const { promise: limit, reject } = Promise.withResolvers<never>();
  let isLate = false;
  const expire = (): void => {
    isLate = true;
    const group = details.group === undefined ? "" : `group "${details.group}": `;
    const text = `${group}${what} has neither resolved nor rejected within its limit of ${limitMs} ms, nor in the ${GRACE_MS} ms after it`;
    const error = new DistTimeoutError(text, { ...details, code: "CONNECT_TIMEOUT", timeoutMs: limitMs });
    overdue.add(error);
    reject(error);
  };
  let timer = scheduleOn(clock, limitMs, () => {
    timer = scheduleOn(clock, GRACE_MS, expire);
  });
  using _timer = { [Symbol.dispose]: () => timer[Symbol.dispose]() };
  // Of a thenable of somebody's own, `then` might throw.
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
