import { DistError } from "../errors/index.ts";

/** The error for a pickle that is broken, too large, or more than plain data. */
export function pickleError(reason: string): DistError {
  return new DistError(`cannot read the pickle: ${reason}`, { code: "INVALID_PICKLE" });
}
