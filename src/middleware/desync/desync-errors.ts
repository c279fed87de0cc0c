import {
  DistBackendError,
  type DistError,
  DistNetworkError,
  DistTimeoutError,
  type ErrorInit,
} from "../../errors/index.ts";
import { encoded, type Fingerprint, NO_TENSORS_LENGTH } from "./fingerprint.ts";
import { differenceOf, textOf } from "./fingerprint-text.ts";

/** What another rank has sent. */
export interface OtherCall {
  readonly rank: number;
  /** `undefined` if the rank has not sent it, or sent something else. */
  readonly call: readonly Fingerprint[] | undefined;
  /** Length of what it would have sent. */
  readonly length?: bigint | undefined;
}

/** The error when not all ranks have come to compare their calls. */
export function missingError(cause: DistError, own: readonly Fingerprint[], details: ErrorInit): DistError {
  const { timeoutMs, peers } = cause.details;
  return newLike(cause, `${beginOf(own)}${cause.message}`, {
    ...details,
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
  details: ErrorInit,
): DistError {
  const reason = cause.code === "ABORTED" ? cause.message : `aborted: ${endReason}`;
  return new DistBackendError(`${beginOf(own)}${reason}`, { ...details, code: "ABORTED", cause });
}

/** The error when this rank and another one have called different ops. */
export function mismatchError(
  own: readonly Fingerprint[],
  { rank, call: theirs, length }: OtherCall,
  details: ErrorInit & { readonly rank: number },
): DistError {
  const at = theirs === undefined ? 0 : own.findIndex((each, i) => !areEqual(each, theirs[i]));
  const mine = own[Math.max(0, at)] as Fingerprint;
  const other = theirs?.[Math.max(0, at)];
  const call = other === undefined ? unknownCall(length) : textOf(other);
  const text =
    `Detected mismatch between collectives on ranks. Rank ${details.rank} is running collective: ` +
    `${textOf(mine)}, but Rank ${rank} is running collective: ${call}.${other === undefined ? "" : differenceOf(mine, other)}`;
  return new DistBackendError(text, {
    ...details,
    code: "DESYNC",
    calls: [
      { rank: details.rank, call: textOf(mine) },
      { rank, call },
    ],
  });
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
