import {
  type DistError,
  DistNetworkError,
  DistTimeoutError,
  descriptorShortage,
  shortageOf,
} from "../../../errors/index.ts";
import { hostPort } from "../host-address.ts";
import type { AnyCall } from "./call.ts";
import type { Endpoint } from "./endpoint.ts";

/** The server as messages name it. */
export function nameOf({ host, address, port }: Endpoint): string {
  return host === address ? hostPort(host, port) : `${hostPort(host, port)} (${address})`;
}

/** The connection was not accepted. */
export function connectFailed(endpoint: Endpoint, cause: unknown): DistNetworkError {
  const { host, port } = endpoint;
  const short = shortageError(`cannot connect to the store server at ${nameOf(endpoint)}`, endpoint, cause);
  if (short !== undefined) return short;
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
  return new DistNetworkError(`cannot connect to the store server at ${nameOf(endpoint)}: ${code}`, {
    code: "CONNECT_FAILED",
    host,
    port,
    cause,
  });
}

/** The error when this process has run out of descriptors or the like; undefined if it has not. */
export function shortageError(
  what: string,
  { host, port }: Pick<Endpoint, "host" | "port">,
  cause: unknown,
): DistNetworkError | undefined {
  const shortage = shortageOf(cause) ?? descriptorShortage();
  return shortage && new DistNetworkError(`${what}: ${shortage.text}`, { code: shortage.code, host, port, cause });
}

/** Whether the connection was refused, since nothing listens there. */
export function isRefusal(error: unknown): boolean {
  if (!(error instanceof DistNetworkError) || error.code !== "CONNECT_FAILED") return false;
  return error.cause instanceof Error && "code" in error.cause && error.cause.code === "ECONNREFUSED";
}

/** The connection broke. */
export function connectionLost(endpoint: Endpoint, cause: unknown): DistNetworkError {
  const { host, port } = endpoint;
  return new DistNetworkError(
    `the connection to the store server at ${nameOf(endpoint)} was lost. Did the process that hosts it (rank 0 or the launcher) end?`,
    { code: "CONNECTION_LOST", host, port, cause },
  );
}

/** The server did not answer the attempt to connect, or, when that was `accepted`, the handshake. */
export function silentServer(endpoint: Endpoint, accepted: boolean): DistError {
  const { host, port } = endpoint;
  // The server may run in this process.
  const short = shortageError(`no answer from the store server at ${nameOf(endpoint)}`, endpoint, undefined);
  if (short !== undefined) return short;
  const what = accepted
    ? `the server at ${nameOf(endpoint)} did not answer the handshake of the store protocol`
    : `no answer from ${nameOf(endpoint)}: the machine is down, the address is wrong, or a firewall drops the packets`;
  return new DistTimeoutError(what, { code: accepted ? "CONNECT_TIMEOUT" : "NO_ANSWER", host, port });
}

/** No reply arrived within the limit of the call. */
export function unanswered(endpoint: Endpoint, { request, limit }: AnyCall): DistTimeoutError {
  return noAnswer(endpoint, request.op, request.keys, limit?.ms ?? 0);
}

/** No reply to `op` arrived within its limit. */
export function noAnswer(endpoint: Endpoint, op: string, keys: readonly string[], limitMs: number): DistTimeoutError {
  const { host, port } = endpoint;
  const what = keys.length > 0 ? ` (key ${shown(keys)})` : "";
  return new DistTimeoutError(
    `store ${op}${what}: the server at ${nameOf(endpoint)} did not answer within ${Math.round(limitMs)} ms. Is the process that hosts it stopped, or the network down?`,
    { code: "STORE_TIMEOUT", op, keys: [...keys], timeoutMs: limitMs, host, port },
  );
}

/** The connection broke while or after a write was sent: it may have taken effect. */
export function outcomeUnknown(error: DistError, writes: AnyCall): DistNetworkError {
  const { op, keys } = writes.request;
  return new DistNetworkError(
    `store ${op}: ${error.message} It is unknown whether ${op}${keys.length > 0 ? ` of key ${shown(keys)}` : ""} took effect, so it was not sent again. Look with get or check, and repeat it if needed.`,
    { ...error.details, code: "OUTCOME_UNKNOWN", op, keys: [...keys], cause: error },
  );
}

/** The same failure as seen by one call. */
export function withOp(error: DistError, op: string, keys: readonly string[] = []): DistError {
  if (!(error instanceof DistNetworkError) || error.code === "OUTCOME_UNKNOWN") return error;
  const { code, details, cause } = error;
  return new DistNetworkError(`store ${op}: ${error.message}`, {
    ...details,
    code,
    op,
    ...(keys.length > 0 ? { keys } : {}),
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Some keys, for a message. */
export function shown(keys: readonly string[]): string {
  return `${keys.slice(0, 4).join(", ")}${keys.length > 4 ? ", …" : ""}`;
}
