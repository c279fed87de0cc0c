import { DistTimeoutError } from "../../errors/index.ts";
import { defaultTimeoutMs, type Timeout, timeoutMs } from "../../time/index.ts";

/** Options of what waits for a device. */
export interface WaitOptions {
  /** How long to wait; 30 minutes by default. What is queued on the device goes on after that. */
  readonly timeout?: Timeout | undefined;
}

/** Whether work of a device is done. Throws if it failed. */
type IsDone = () => boolean;

interface Waiter {
  readonly isDone: IsDone;
  readonly deadline: number;
  readonly expire: () => Error;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** Work of microseconds is waited for by this many turns of the event loop, and then by timers. */
const FAST_POLLS = 8;
const LONGEST_PAUSE_MS = 2;

const waiters = new Set<Waiter>();
let polls = 0;
let isScheduled = false;

/**
 * Waits for a device without blocking this thread, which keeps the process alive meanwhile. One poll for all: native
 * code cannot call JavaScript from the driver's threads.
 */
export function whenDone(what: string, options: WaitOptions | undefined, isDone: IsDone): Promise<void> {
  const limitMs = limitOf(options);
  if (isDone()) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const deadline = performance.now() + limitMs;
    waiters.add({ isDone, deadline, expire: () => expired(what, limitMs), resolve, reject });
    polls = 0;
    schedule();
  });
}

function schedule(): void {
  if (isScheduled || waiters.size === 0) return;
  isScheduled = true;
  if (polls < FAST_POLLS) setImmediate(poll);
  else setTimeout(poll, Math.min(LONGEST_PAUSE_MS, (polls - FAST_POLLS) / 8));
}

function poll(): void {
  isScheduled = false;
  polls++;
  for (const waiter of waiters) {
    try {
      if (waiter.isDone()) waiter.resolve();
      else if (performance.now() >= waiter.deadline) waiter.reject(waiter.expire());
      else continue;
    } catch (error) {
      waiter.reject(error);
    }
    waiters.delete(waiter);
    polls = 0;
  }
  schedule();
}

const SHORTEST_SLEEP_MS = 0.02;
const LONGEST_SLEEP_MS = 1;
const never = new Int32Array(new SharedArrayBuffer(4));

/**
 * Blocks this thread until a device is done. By short sleeps, since a call that waits inside the driver has no limit and
 * a Worker cannot be terminated during one.
 */
export function blockUntilDone(what: string, options: WaitOptions | undefined, isDone: IsDone): void {
  const limitMs = limitOf(options);
  if (!blockFor(limitMs, isDone)) throw expired(what, limitMs);
}

/** The same; returns `false` if that took too long. */
export function blockFor(limitMs: number, isDone: IsDone): boolean {
  const deadline = performance.now() + limitMs;
  for (let sleepMs = SHORTEST_SLEEP_MS; !isDone(); sleepMs = Math.min(LONGEST_SLEEP_MS, sleepMs * 1.5)) {
    const leftMs = deadline - performance.now();
    if (leftMs <= 0) return false;
    Atomics.wait(never, 0, 0, Math.min(sleepMs, leftMs));
  }
  return true;
}

function limitOf(options: WaitOptions | undefined): number {
  return timeoutMs(options?.timeout, defaultTimeoutMs.processGroup);
}

function expired(what: string, limitMs: number): DistTimeoutError {
  return new DistTimeoutError(
    `${what}: waited ${limitMs} ms for the device, which is not done. What is queued goes on; if it is stuck, an op before it in the stream has not ended`,
    { code: "WAIT_TIMEOUT", timeoutMs: limitMs },
  );
}
