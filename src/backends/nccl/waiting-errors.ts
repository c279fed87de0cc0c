import type { OpCall } from "../../collectives/op-call.ts";
import { opTable } from "../../collectives/op-table.ts";
import {
  DistBackendError,
  DistError,
  DistNetworkError,
  DistStoreError,
  DistTimeoutError,
  messageOf,
} from "../../errors/index.ts";

/** What is being made, for messages. */
interface Making {
  readonly title: string;
  readonly backend: string;
  readonly group: string;
  readonly rank: number;
}

/** The error of a communicator that could not be made; that of user code is wrapped. */
export function creationFailure(error: unknown, { title, group, backend, rank }: Making): DistError {
  if (error instanceof DistError) return error;
  const text = `group "${group}" (${backend}, rank ${rank}): its communicator on ${title} could not be made: ${messageOf(error)}`;
  return new DistBackendError(text, { backend, group, rank, cause: error });
}

/** The error of a group in which an op timed out before its communicator was made. */
export function overdue(call: OpCall, limitMs: number, { title, group, backend, rank }: Making): DistTimeoutError {
  const op = opTable[call.op].api;
  const peers = call.peer < 0 ? {} : { peers: [call.peer] };
  return new DistTimeoutError(
    `${op} on group "${group}" (${backend}, rank ${rank}): timed out after ${limitMs} ms, before the communicator on ${title} was made: have all its ranks called an op?`,
    { code: "OP_TIMEOUT", backend, group, rank, op, timeoutMs: limitMs, ...peers },
  );
}

/** The error of an op that waited for a communicator which could not be made. */
export function whileConnecting(failure: DistError, call: OpCall | undefined, making: Making): DistError {
  const op = call === undefined ? "op" : opTable[call.op].api;
  const { backend, group, rank } = making;
  const init = { ...failure.details, code: failure.code, backend, group, rank, op, cause: failure };
  const text = `${op}: the communicator on ${making.title} could not be made: ${failure.message}`;
  // An op of the group's ranks that are missing there.
  if (failure instanceof DistTimeoutError) return new DistTimeoutError(text, { ...init, code: "OP_TIMEOUT" });
  if (failure instanceof DistNetworkError) return new DistNetworkError(text, init);
  if (failure instanceof DistStoreError) return new DistStoreError(text, init);
  return new DistBackendError(text, init);
}

/** The error of an op that could not be submitted, although its communicator was made. */
export function notSubmitted(error: unknown, call: OpCall | undefined, group: Omit<Making, "title">): DistError {
  if (error instanceof DistError) return error;
  const op = call === undefined ? "op" : opTable[call.op].api;
  return new DistBackendError(`${op}: ${messageOf(error)}`, { ...group, op, cause: error });
}
