/**
 * The rule for user code that runs in the middle of our bookkeeping (listeners, loggers, plugins, warning handlers):
 * an error that it throws never stops the bookkeeping. A listener's error becomes an uncaught exception, like that of
 * an event listener, but only after the bookkeeping. A logger's error becomes a process warning. What it returns is
 * watched, since the rejection of a promise that nobody handles ends the process.
 */

/** Calls user code; an error that it throws becomes an uncaught exception after the current job. */
export function callUserCode(code: () => unknown): void {
  try {
    code();
  } catch (error) {
    throwLater(error);
  }
}

/**
 * Watches what user code returned, in case it is a promise or any other thenable: `failed` gets what it rejects with, or
 * what its `then` throws.
 * @returns A promise that resolves when it has settled; undefined if it is no thenable.
 */
export function watchReturned(returned: unknown, failed: (error: unknown) => void): Promise<void> | undefined {
  if (!isThenable(returned)) return undefined;
  return new Promise((resolve) => resolve(returned)).then(() => {}, failed);
}

/** Whether a value has a `then`, which may be a getter that throws. */
function isThenable(value: unknown): boolean {
  if (value === null || (typeof value !== "object" && typeof value !== "function")) return false;
  try {
    return typeof (value as { readonly then?: unknown }).then === "function";
  } catch {
    return true;
  }
}

/** Reports an error as an uncaught exception after the current job. Rethrown, it would be shown without its stack. */
export function throwLater(error: unknown): void {
  queueMicrotask(() => reportError(error));
}

/** Emits a process warning of type DistWarning. Never throws, even if `emitWarning` has been replaced. */
export function warn(message: string, code?: string): void {
  callUserCode(() => process.emitWarning(message, { type: "DistWarning", ...(code !== undefined && { code }) }));
}

/** Message of a thrown value, which may be anything, even a value that cannot be converted to a string. */
export function messageOf(thrown: unknown): string {
  try {
    return thrown instanceof Error ? String(thrown.message) : String(thrown);
  } catch {
    return `a thrown ${typeof thrown}`;
  }
}
