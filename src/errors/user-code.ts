/**
 * The rule for user code that runs in the middle of our bookkeeping (listeners, loggers, plugins, warning handlers):
 * an error that it throws never stops the bookkeeping. A listener's error becomes an uncaught exception, like that of
 * an event listener, but only after the bookkeeping. A logger's error becomes a process warning.
 */

/** Calls user code; an error that it throws becomes an uncaught exception after the current job. */
export function callUserCode(code: () => unknown): void {
  try {
    code();
  } catch (error) {
    throwLater(error);
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
