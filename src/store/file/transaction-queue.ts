import { DistTimeoutError } from "../../errors/index.ts";
import { lockHolder } from "./lock-holder.ts";
import type { Access, Replica } from "./replica.ts";

/** Work on the file that is done under one lock. */
export interface Transaction<T> {
  /** For messages. */
  readonly op: string;
  readonly keys: readonly string[];
  readonly access: Access;
  readonly limitMs: number;
  readonly deadline: number;
  readonly signal: AbortSignal | undefined;
  readonly body: (replica: Replica) => T;
}

interface Job {
  readonly access: Access;
  readonly deadline: number;
  readonly run: () => void;
  readonly fail: (error: unknown) => void;
  readonly expire: () => void;
}

/** How long the lock is held, and the event loop blocked, before others can run. */
const sliceMs = 4;
/** Attempts that only yield to the event loop; the later ones wait by timers, up to this delay. */
const eagerAttempts = 8;
const longestDelayMs = 10;

/**
 * Runs transactions in the order of the calls. Those that are queued at one time share a lock. If another process holds
 * it they try again later, so that neither the event loop nor a thread ever blocks on it.
 */
export class TransactionQueue {
  readonly #replica: Replica;
  #jobs: Job[] = [];
  #attempts = 0;
  #scheduled = false;

  constructor(replica: Replica) {
    this.#replica = replica;
  }

  get isEmpty(): boolean {
    return this.#jobs.length === 0;
  }

  add<T>(transaction: Transaction<T>): Promise<T> {
    const { op, keys, access, limitMs, deadline, signal, body } = transaction;
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const abort = () => {
      this.#jobs = this.#jobs.filter((each) => each !== job);
      reject(signal?.reason);
    };
    const fail = (error: unknown) => {
      signal?.removeEventListener("abort", abort);
      reject(error);
    };
    const job: Job = {
      access,
      deadline,
      run: () => {
        const result = body(this.#replica);
        signal?.removeEventListener("abort", abort);
        resolve(result);
      },
      fail,
      expire: () => fail(lockTimeout(op, keys, limitMs, this.#replica.path)),
    };
    signal?.addEventListener("abort", abort, { once: true });
    this.#jobs.push(job);
    if (!this.#scheduled) {
      this.#scheduled = true;
      queueMicrotask(() => this.#attempt());
    }
    return promise;
  }

  /** Rejects the queued transactions. */
  clear(error: unknown): void {
    for (const job of this.#jobs.splice(0)) job.fail(error);
  }

  #attempt(): void {
    this.#scheduled = false;
    if (this.#jobs.length === 0) return;
    if (this.#runSlice()) {
      this.#attempts = 0;
      if (this.#jobs.length > 0) this.#after(0);
      return;
    }
    const now = performance.now();
    const late = this.#jobs.filter(({ deadline }) => deadline <= now);
    this.#jobs = this.#jobs.filter(({ deadline }) => deadline > now);
    for (const { expire } of late) expire();
    const soonest = this.#jobs.reduce((least, { deadline }) => Math.min(least, deadline), Number.POSITIVE_INFINITY);
    // Random, since processes that collided once would keep colliding otherwise.
    const backOff =
      ++this.#attempts <= eagerAttempts ? 0 : Math.random() * Math.min(this.#attempts / 4, longestDelayMs);
    if (this.#jobs.length > 0) this.#after(Math.min(backOff, Math.max(soonest - now, 0)));
  }

  #after(delayMs: number): void {
    this.#scheduled = true;
    if (delayMs === 0) setImmediate(() => this.#attempt());
    else setTimeout(() => this.#attempt(), delayMs);
  }

  /** Runs queued transactions under one lock, for at most a slice; `false` if another process holds the lock. */
  #runSlice(): boolean {
    const access = this.#jobs.reduce<Access>(
      (most, job) => (rank[job.access] > rank[most] ? job.access : most),
      "read",
    );
    try {
      return this.#replica.transact(access, () => {
        const end = performance.now() + sliceMs;
        do {
          const job = this.#jobs.shift();
          if (job === undefined) return;
          try {
            job.run();
          } catch (error) {
            job.fail(error);
          }
        } while (performance.now() < end);
      });
    } catch (error) {
      this.clear(error);
      return true;
    }
  }
}

const rank: Readonly<Record<Access, number>> = { read: 0, "change-existing": 1, write: 2 };

function lockTimeout(op: string, keys: readonly string[], limitMs: number, path: string): DistTimeoutError {
  const what = keys.length === 0 ? "" : ` of ${keys.slice(0, 8).join(", ")}`;
  const holder = lockHolder(path);
  return new DistTimeoutError(
    `store ${op}${what}: timed out after ${Math.round(limitMs)} ms while ${holder ?? "another process"} held the lock of ${path}. ` +
      (holder === undefined ? "Is one stopped or hanging? `lslocks` shows which." : "Is it stopped or hanging?"),
    { code: "STORE_TIMEOUT", op, keys: [...keys], timeoutMs: limitMs },
  );
}
