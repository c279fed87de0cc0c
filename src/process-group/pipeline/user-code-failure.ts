import { DistBackendError, DistError, type ErrorDetails, messageOf } from "../../errors/index.ts";

/**
 * Wraps what user code threw or rejected with in an error of this package that says where that was. Errors of this
 * package are returned unchanged.
 */
export function userCodeFailure(where: string, { group, backend, op }: ErrorDetails, cause: unknown): DistError {
  if (cause instanceof DistError) return cause;
  const details = {
    ...(group !== undefined && { group }),
    ...(backend !== undefined && { backend }),
    ...(op !== undefined && { op }),
  };
  return new DistBackendError(`group "${group}": ${where} failed: ${messageOf(cause)}`, { ...details, cause });
}

/** Calls or reads something of user code; what it throws is wrapped by {@link userCodeFailure}. */
export function callUserFunction<T>(where: string, details: ErrorDetails, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw userCodeFailure(where, details, error);
  }
}
