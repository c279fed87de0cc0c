/**
 * The rule for code of the user that runs in the middle of our bookkeeping (listeners, loggers, plugins, handlers of
 * warnings): what it throws never stops the bookkeeping. A listener's error becomes an uncaught exception, as that of
 * an event listener does, but only when the bookkeeping is done. A logger's error is a process warning.
 */

/** Calls code of the user; what it throws is rethrown as an uncaught exception after the present job. */
export function callUserCode(code: () => unknown): void {
  try {
    code();
  } catch (error) {
    throwLater(error);
  }
}

/** Makes an error an uncaught exception, after the present job. Thrown again, it would be shown without the stack that it has. */
export function throwLater(error: unknown): void {
  queueMicrotask(() => reportError(error));
}

/** Emits a process warning of type DistWarning. Never throws, whatever has been put in the place of `emitWarning`. */
export function warn(message: string, code?: string): void {
  callUserCode(() => process.emitWarning(message, { type: "DistWarning", ...(code !== undefined && { code }) }));
}

/** What a thrown value says; it may be anything, also a value that cannot be made a string. */
export function messageOf(thrown: unknown): string {
  try {
    return thrown instanceof Error ? String(thrown.message) : String(thrown);
  } catch {
    return `a thrown ${typeof thrown}`;
  }
}
