import { DistTimeoutError, messageOf, warn } from "../../errors/index.ts";
import type { Backend } from "../../registry/index.ts";
import { withLimit } from "../../time/index.ts";
import { foreignFailure } from "./foreign-failure.ts";

/** What a part of a group may take to close, in milliseconds; the contract asks for one second. */
export const CLOSE_LIMIT_MS = 10_000;

/** What is closed, for errors. */
export interface Closing {
  readonly group: string;
  /** Such as `backend "ring"`. */
  readonly what: string;
  readonly backend: string;
}

/**
 * Closes something that may be a user's own, and gives it up when it takes too long. By real time: what a clock of the container
 * rules are the limits of ops.
 *
 * @throws DistTimeoutError (`CLOSE_TIMEOUT`), or what `close` throws or rejects with, as {@link foreignFailure} has it.
 */
export async function closedWithin(closing: Closing, close: () => unknown): Promise<void> {
  try {
    await closedInTime(closing, close);
  } catch (error) {
    throw foreignFailure(`closing ${closing.what}`, closing, error);
  }
}

async function closedInTime({ group, what, backend }: Closing, close: () => unknown): Promise<void> {
  const late = (): DistTimeoutError => {
    const text = `group "${group}": ${what} had not closed after ${CLOSE_LIMIT_MS} ms; it is given up`;
    return new DistTimeoutError(text, { code: "CLOSE_TIMEOUT", group, backend, timeoutMs: CLOSE_LIMIT_MS });
  };
  await withLimit((async () => close())(), CLOSE_LIMIT_MS, late);
}

/** Closes something where another error is on its way already: what goes wrong here is a warning. Never rejects. */
export async function closedQuietly(closed: { close(): Promise<void> }, group: string): Promise<void> {
  try {
    await closed.close();
  } catch (error) {
    warn(`closing group "${group}" failed: ${messageOf(error)}`);
  }
}

/** Aborts and closes a backend that no group has, as {@link closedQuietly} does. It may be anything that a plugin has made. */
export async function endBackend(backend: Backend, name: string, group: string, reason: string): Promise<void> {
  const what = `backend "${name}"`;
  const failed = (method: string) => (error: unknown) => {
    warn(`group "${group}": ${method} of ${what} failed: ${messageOf(error)}`);
  };
  // One that hangs must not keep it from being closed. In async functions, since reading a method may throw, too.
  void (async () => {
    if (typeof backend?.abort === "function") await backend.abort(reason);
  })().catch(failed("abort()"));
  const close = () => (typeof backend?.close === "function" ? backend.close() : undefined);
  await closedInTime({ group, what, backend: name }, close).catch(failed("close()"));
}
