import { DistNetworkError, DistTimeoutError } from "../../errors/index.ts";
import { pause } from "../deadline.ts";
import { type CallLimit, Connection } from "./connection.ts";
import { addressesOf, hostPort } from "./host-address.ts";

const firstPauseMs = 5;
const longestPauseMs = 1_000;
/** Least time for one of several addresses of a name. */
const leastAttemptMs = 1_000;
/** Time for the first attempt: a server that accepted and was then lost must not use up the whole limit. */
const firstAttemptMs = 5_000;

/**
 * Connects to the store server at `host:port`, trying all addresses of the name again and again, with growing and
 * jittered pauses, until the limit.
 * @throws DistTimeoutError `CONNECT_TIMEOUT` naming host and port; DistNetworkError when something else listens there.
 */
export async function dial(host: string, port: number, limit: CallLimit): Promise<Connection> {
  let lastError: unknown;
  let attemptMs = firstAttemptMs;
  for (let delay = firstPauseMs; ; delay = Math.min(delay * 1.5, longestPauseMs)) {
    try {
      return await dialOnce(host, port, limit, attemptMs);
    } catch (error) {
      limit.signal?.throwIfAborted();
      if (error instanceof DistNetworkError && error.code === "PROTOCOL_VIOLATION") throw error;
      // An attempt that the deadline cut short says less than the one before.
      if (!(lastError instanceof Error) || !isTimeout(error)) lastError = error;
      if (isTimeout(error)) attemptMs *= 2;
    }
    const left = limit.deadline - performance.now();
    if (left <= 0) throw connectTimeout(host, port, limit.ms, lastError);
    await pause(Math.min(left, delay * (0.5 + Math.random())), limit.signal);
  }
}

async function dialOnce(host: string, port: number, limit: CallLimit, attemptMs: number): Promise<Connection> {
  const addresses = await resolved(host, limit);
  let lastError: unknown;
  for (const [i, address] of addresses.entries()) {
    const left = limit.deadline - performance.now();
    const share = Math.min(attemptMs, Math.max(left / (addresses.length - i), leastAttemptMs));
    const deadline = Math.min(limit.deadline, performance.now() + share);
    try {
      return await Connection.open({ host, address, port }, { ...limit, deadline });
    } catch (error) {
      lastError = error;
    }
  }
  throw lastError ?? new DistNetworkError(`${host} has no address`, { code: "UNKNOWN_HOST", host, port });
}

async function resolved(host: string, limit: CallLimit): Promise<string[]> {
  const late = Promise.withResolvers<never>();
  const left = Math.min(Math.max(limit.deadline - performance.now(), 1), 0x7fff_ffff);
  const timer = setTimeout(() => late.reject(new Error(`looking up ${host} takes too long`)), left);
  try {
    return await Promise.race([addressesOf(host), late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

function isTimeout(error: unknown): boolean {
  return error instanceof DistTimeoutError;
}

function connectTimeout(host: string, port: number, limitMs: number, cause: unknown): DistTimeoutError {
  const last = cause instanceof Error ? ` Last attempt: ${cause.message}.` : "";
  return new DistTimeoutError(
    `no connection to the store server at ${hostPort(host, port)} within ${Math.round(limitMs)} ms.${last} ` +
      "Check that rank 0 or the launcher, which hosts it, is running; that MASTER_ADDR and MASTER_PORT name it here as well as there; and that no firewall is in between.",
    { code: "CONNECT_TIMEOUT", op: "connect", host, port, timeoutMs: limitMs, cause },
  );
}
