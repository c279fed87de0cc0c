import { DistBackendError, DistError, type ErrorDetails, messageOf } from "../../errors/index.ts";

/**
 * What code of a user's own has thrown or rejected with, as an error of this package that says where that was, with the other as its
 * cause; the error itself if it is one of this package, which says by itself what is wrong.
 */
export function foreignFailure(where: string, { group, backend, op }: ErrorDetails, cause: unknown): DistError {
  if (cause instanceof DistError) return cause;
  const details = {
    ...(group !== undefined && { group }),
    ...(backend !== undefined && { backend }),
    ...(op !== undefined && { op }),
  };
  return new DistBackendError(`group "${group}": ${where} has failed: ${messageOf(cause)}`, { ...details, cause });
}

/** Calls or reads something of a user's own; what it throws comes out as {@link foreignFailure}. */
export function ofForeign<T>(where: string, details: ErrorDetails, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw foreignFailure(where, details, error);
  }
}
