import { DistNetworkError, DistTimeoutError } from "../../errors/index.ts";
import { pause } from "../deadline.ts";
import { callLimit } from "./call-limit.ts";
import { type CallLimit, Connection, type Endpoint } from "./connection.ts";
import { refusalCodes, secretUnsupported } from "./handshake.ts";
import { addressesOf, hostPort } from "./host-address.ts";
import type { StoreSecret } from "./store-secret.ts";

const firstPauseMs = 5;
const longestPauseMs = 1_000;
/** Least time for one of several addresses of a name. */
const leastAttemptMs = 1_000;
/** Time for the first attempt: a server that accepted and was then lost must not use up the whole limit. */
const firstAttemptMs = 5_000;
/** The same with a secret, about which PyTorch's server says nothing. */
const firstSecretAttemptMs = 1_500;
/** Time for a server to show that it speaks the open protocol. */
const probeMs = 1_000;
/** The least, where the limit is already over: it turns a time-out into the reason. */
const leastProbeMs = 100;

/** Failures that no further attempt will change. */
const finalCodes: ReadonlySet<string> = new Set(["PROTOCOL_VIOLATION", ...refusalCodes]);

/**
 * Connects to the store server at `host:port`, trying all addresses of the name again and again, with growing and
 * jittered pauses, until the limit.
 * @throws DistTimeoutError `CONNECT_TIMEOUT` naming host and port; DistNetworkError when something else listens there.
 */
export async function dial(
  host: string,
  port: number,
  limit: CallLimit,
  secret: StoreSecret | undefined,
): Promise<Connection> {
  let lastError: unknown;
  let attemptMs = secret ? firstSecretAttemptMs : firstAttemptMs;
  for (let delay = firstPauseMs; ; delay = Math.min(delay * 1.5, longestPauseMs)) {
    try {
      return await dialOnce(host, port, limit, attemptMs, secret);
    } catch (error) {
      limit.signal?.throwIfAborted();
      if (isFinal(error)) throw error;
      // An attempt that the deadline cut short says less than the one before.
      if (!(lastError instanceof Error) || !isTimeout(error)) lastError = error;
      if (isTimeout(error)) attemptMs *= 2;
    }
    const left = limit.deadline - performance.now();
    if (left <= 0) throw connectTimeout(host, port, limit.ms, lastError);
    await pause(Math.min(left, delay * (0.5 + Math.random())), limit.signal);
  }
}

async function dialOnce(
  host: string,
  port: number,
  limit: CallLimit,
  attemptMs: number,
  secret: StoreSecret | undefined,
): Promise<Connection> {
  const addresses = await resolved(host, limit);
  let lastError: unknown;
  for (const [i, address] of addresses.entries()) {
    const left = limit.deadline - performance.now();
    const share = Math.min(attemptMs, Math.max(left / (addresses.length - i), leastAttemptMs));
    const deadline = Math.min(limit.deadline, performance.now() + share);
    const endpoint = { host, address, port, secret };
    try {
      return await Connection.open(endpoint, { ...limit, deadline });
    } catch (error) {
      if (secret && !isFinal(error) && isConnected(error)) await probe(endpoint, limit);
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

/**
 * Finds out whether a server that did not answer to the secret, or hung up on it, would talk without one, as PyTorch's
 * do: then no patience helps. Says nothing to it that is secret.
 */
async function probe(endpoint: Endpoint, limit: CallLimit): Promise<void> {
  const { host, address, port } = endpoint;
  const brief = callLimit(limit, Math.min(probeMs, Math.max(limit.deadline - performance.now(), leastProbeMs)));
  const open = await Connection.open({ host, address, port }, brief).catch(() => undefined);
  if (open === undefined) return;
  open.close();
  throw secretUnsupported({ name: hostPort(host, port), host, port });
}

function isFinal(error: unknown): boolean {
  return error instanceof DistNetworkError && finalCodes.has(error.code);
}

/** Whether somebody was there at least. */
function isConnected(error: unknown): boolean {
  return !(error instanceof DistNetworkError && error.code === "CONNECT_FAILED");
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
