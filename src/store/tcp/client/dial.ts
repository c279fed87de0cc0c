import { DistError, DistNetworkError, DistTimeoutError } from "../../../errors/index.ts";
import { msUntil, pause, withLimit } from "../../../time/index.ts";
import { addressesOf, hostPort } from "../host-address.ts";
import type { StoreSecret } from "../store-secret.ts";
import { refusalCodes, secretUnsupported } from "../wire/handshake.ts";
import type { CallLimit } from "./call.ts";
import { callLimit } from "./call-limit.ts";
import type { Connection } from "./connection.ts";
import { isRefusal, shortageError } from "./connection-errors.ts";
import type { Endpoint } from "./endpoint.ts";
import { openConnection } from "./open-connection.ts";

const firstPauseMs = 5;
const longestPauseMs = 1_000;
/** After this time without a result from one address of a name, the next one is tried in parallel. */
const staggerMs = 250;
/** Time for the first attempt: a server that accepted and was then lost must not use up the whole limit. */
const firstAttemptMs = 5_000;
/** The same with a secret, whose handshake PyTorch's server does not answer. */
const firstSecretAttemptMs = 1_500;
/** Time for a server to show that it speaks the open protocol. */
const probeMs = 1_000;
/** The minimum, even after the deadline: the result replaces a time-out by its reason. */
const leastProbeMs = 100;

/** Failures after which no other attempt is made. */
const finalCodes: ReadonlySet<string> = new Set(["PROTOCOL_VIOLATION", "OUT_OF_DESCRIPTORS", ...refusalCodes]);

export interface DialOptions {
  /** Whether the server was reachable before: if its port is closed now, it will not return. */
  readonly resuming?: boolean;
  /** The addresses of a host; default: all that the system knows. */
  readonly resolve?: (host: string) => Promise<string[]>;
}

/**
 * Connects to the store server at `host:port`. Tries all addresses of the name repeatedly, with growing and jittered
 * pauses, until the deadline.
 * @throws DistTimeoutError `CONNECT_TIMEOUT` naming host and port; DistNetworkError when something else listens there.
 */
export async function dial(
  host: string,
  port: number,
  limit: CallLimit,
  secret: StoreSecret | undefined,
  { resuming = false, resolve = addressesOf }: DialOptions = {},
): Promise<Connection> {
  let lastErrors: readonly unknown[] = [];
  let attemptMs = secret ? firstSecretAttemptMs : firstAttemptMs;
  for (let delay = firstPauseMs; ; delay = Math.min(delay * 1.5, longestPauseMs)) {
    try {
      return await dialOnce(host, port, limit, attemptMs, secret, resolve);
    } catch (error) {
      limit.signal?.throwIfAborted();
      const errors: readonly unknown[] = error instanceof AggregateError ? error.errors : [error];
      const final = errors.find(isFinal) ?? (resuming && errors.every(isRefusal) ? errors[0] : undefined);
      if (final !== undefined) throw final;
      // An attempt that the deadline cut short says less than the one before.
      if (lastErrors.length === 0 || !errors.every(isTimeout)) lastErrors = errors;
      if (errors.some(isTimeout)) attemptMs *= 2;
    }
    const left = limit.deadline - performance.now();
    if (left <= 0) throw connectTimeout(host, port, limit.ms, lastErrors);
    await pause(Math.min(left, delay * (0.5 + Math.random())), limit.signal);
  }
}

/**
 * Tries all addresses of the name, each when the one before has failed or has been silent for a while, and takes the
 * first that answers. Rejects with an AggregateError when none does.
 */
async function dialOnce(
  host: string,
  port: number,
  limit: CallLimit,
  attemptMs: number,
  secret: StoreSecret | undefined,
  resolve: (host: string) => Promise<string[]>,
): Promise<Connection> {
  const addresses = await resolved(host, limit, resolve).catch((error: unknown) => {
    throw shortageError(`cannot look up ${host}`, { host, port }, error) ?? error;
  });
  const decided = new AbortController();
  const signal = limit.signal ? AbortSignal.any([limit.signal, decided.signal]) : decided.signal;
  const first = Promise.withResolvers<Connection>();
  const errors: unknown[] = [];
  let next = 0;
  let patience: ReturnType<typeof setTimeout> | undefined;
  const tryNext = () => {
    clearTimeout(patience);
    const address = addresses[next++];
    if (address === undefined) return;
    if (next < addresses.length) patience = setTimeout(tryNext, staggerMs);
    dialAddress({ host, address, port, secret }, { ...limit, signal }, attemptMs).then(
      (connection) => (decided.signal.aborted ? connection.close() : decide(connection)),
      (error: unknown) => {
        errors.push(error);
        if (isFinal(error) || errors.length === addresses.length) first.reject(new AggregateError(errors));
        else tryNext();
      },
    );
  };
  const decide = (connection: Connection) => {
    first.resolve(connection);
    decided.abort(new Error("another address answered"));
  };
  if (addresses.length === 0)
    throw new DistNetworkError(`${host} has no address`, { code: "UNKNOWN_HOST", host, port });
  tryNext();
  try {
    return await first.promise;
  } finally {
    clearTimeout(patience);
    decided.abort(new Error("another address answered"));
  }
}

async function dialAddress(endpoint: Endpoint, limit: CallLimit, attemptMs: number): Promise<Connection> {
  const deadline = Math.min(limit.deadline, performance.now() + attemptMs);
  try {
    return await openConnection(endpoint, { ...limit, deadline });
  } catch (error) {
    if (endpoint.secret && !limit.signal?.aborted && !isFinal(error) && isConnected(error))
      await probe(endpoint, limit);
    throw error;
  }
}

async function resolved(
  host: string,
  limit: CallLimit,
  resolve: (host: string) => Promise<string[]>,
): Promise<string[]> {
  const leftMs = Math.max(msUntil(limit.deadline), 1);
  return await withLimit(resolve(host), leftMs, () => new Error(`looking up ${host} takes too long`));
}

/**
 * Finds out whether a server that did not answer the handshake with the secret, or hung up, speaks the open protocol,
 * as PyTorch's do: then it is useless to try again. Sends nothing secret.
 */
async function probe(endpoint: Endpoint, limit: CallLimit): Promise<void> {
  const { host, address, port } = endpoint;
  const brief = callLimit(limit, Math.min(probeMs, Math.max(limit.deadline - performance.now(), leastProbeMs)));
  const open = await openConnection({ host, address, port }, brief).catch(() => undefined);
  if (open === undefined) return;
  open.close();
  throw secretUnsupported({ name: hostPort(host, port), host, port });
}

function isFinal(error: unknown): boolean {
  return error instanceof DistNetworkError && finalCodes.has(error.code);
}

/** Whether a server at least accepted the connection. */
function isConnected(error: unknown): boolean {
  return error instanceof DistError && error.code !== "CONNECT_FAILED" && error.code !== "NO_ANSWER";
}

function isTimeout(error: unknown): boolean {
  return error instanceof DistTimeoutError;
}

function connectTimeout(host: string, port: number, limitMs: number, causes: readonly unknown[]): DistTimeoutError {
  const messages = causes.filter((cause) => cause instanceof Error).map(({ message }) => message);
  const last = messages.length > 0 ? ` Last attempt: ${messages.join("; ")}.` : "";
  return new DistTimeoutError(
    `no connection to the store server at ${hostPort(host, port)} within ${Math.round(limitMs)} ms.${last} ` +
      "Check that rank 0 or the launcher, which hosts it, is running; that MASTER_ADDR and MASTER_PORT name it on this host too; and that no firewall is in between.",
    {
      code: "CONNECT_TIMEOUT",
      op: "connect",
      host,
      port,
      timeoutMs: limitMs,
      cause: causes.length > 1 ? new AggregateError(causes) : causes[0],
    },
  );
}
