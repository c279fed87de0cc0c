import {
  DistBackendError,
  type DistError,
  DistNetworkError,
  DistTimeoutError,
  type ErrorDetails,
  type ErrorInit,
} from "../../errors/index.ts";
import { encoded, type Fingerprint, NO_TENSORS_LENGTH } from "./fingerprint.ts";
import { differenceOf, textOf } from "./fingerprint-text.ts";

/** The op, as the user called it, that an error of this check is about. */
export interface CheckedOp {
  readonly backend: string;
  readonly group: string;
  readonly op: string;
  readonly seq: number;
  readonly rank: number;
}

/** What another rank has sent. */
export interface OtherCall {
  readonly rank: number;
  /** `undefined` if the rank has not sent it, or sent something else. */
  readonly call: readonly Fingerprint[] | undefined;
  /** Length of what it would have sent. */
  readonly length?: bigint | undefined;
}

/** The error when not all ranks of the group, of this size, have come to compare their calls. */
export function missingError(cause: DistError, own: readonly Fingerprint[], op: CheckedOp, size: number): DistError {
  const { timeoutMs, peers } = cause.details;
  return newLike(cause, `${headOf(op, size)}${beginOf(own)}${reasonOf(cause, size)}`, {
    ...op,
    code: cause.code,
    cause,
    ...(timeoutMs !== undefined && { timeoutMs }),
    ...(peers !== undefined && { peers }),
  });
}

/** The same when that is because the group has ended. */
export function abortedError(
  cause: DistError,
  own: readonly Fingerprint[],
  endReason: string,
  op: CheckedOp,
  size: number,
): DistError {
  const reason = cause.code === "ABORTED" ? reasonOf(cause, size) : `aborted: ${endReason}`;
  return new DistBackendError(`${headOf(op, size)}${beginOf(own)}${reason}`, { ...op, code: "ABORTED", cause });
}

/**
 * The error when this rank and another one have called different ops.
 * @param ops The ops of this rank, in the order of `own`.
 */
export function mismatchError(
  own: readonly Fingerprint[],
  { rank, call: theirs, length }: OtherCall,
  ops: readonly CheckedOp[],
  size: number,
): DistError {
  const at =
    theirs === undefined
      ? 0
      : Math.max(
          0,
          own.findIndex((each, i) => !areEqual(each, theirs[i])),
        );
  const [mine, op] = [own[at] as Fingerprint, ops[at] as CheckedOp];
  const other = theirs?.[at];
  const call = other === undefined ? unknownCall(length) : textOf(other);
  const text =
    `${headOf(op, size)}Detected mismatch between collectives on ranks. Rank ${op.rank} is running collective: ` +
    `${textOf(mine)}, but Rank ${rank} is running collective: ${call}.${other === undefined ? "" : differenceOf(mine, other)}`;
  return new DistBackendError(text, {
    ...op,
    code: "DESYNC",
    // There is no way to know which call is wrong.
    peers: [],
    calls: [
      { rank: op.rank, call: textOf(mine) },
      { rank, call },
    ],
  });
}

/** How a message begins: PyTorch's text names neither the group nor the op as the user called it. */
function headOf({ op, seq, group, backend, rank }: ErrorDetails, size: number): string {
  return `${op} #${seq} on group "${group}" (${backend}, rank ${rank} of ${size}): `;
}

/** What the error of the helper group says, without which op of that group it is about. */
function reasonOf({ message, details }: DistError, size: number): string {
  const head = headOf(details, size);
  return message.startsWith(head) ? message.slice(head.length) : message;
}

function beginOf(own: readonly Fingerprint[]): string {
  const collectives = own.map(textOf).join(", ");
  return `ProcessGroupWrapper: Monitored Barrier encountered error running collective: ${collectives}. Error: \n`;
}

/** PyTorch's wrapper sends only the length of its fingerprint if that is another one. */
function unknownCall(length: bigint | undefined): string {
  return length === BigInt(NO_TENSORS_LENGTH)
    ? "one without tensors to compare, such as a barrier or an all-to-all"
    : "one with tensors of other dimensions";
}

function areEqual(own: Fingerprint, other: Fingerprint | undefined): boolean {
  return other !== undefined && encoded([own]).join() === encoded([other]).join();
}

function newLike(error: DistError, text: string, init: ErrorInit): DistError {
  if (error instanceof DistTimeoutError) return new DistTimeoutError(text, init);
  return error instanceof DistNetworkError ? new DistNetworkError(text, init) : new DistBackendError(text, init);
}
