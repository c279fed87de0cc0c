import { DistTimeoutError, describe, InvalidArgumentError } from "../errors/index.ts";
import { checkPort } from "../store/arguments.ts";
import { defaultTimeoutMs, timeoutMs, withLimit } from "../time/index.ts";
import { envRendezvous } from "./env.ts";
import type { Rendezvous, RendezvousHandler, RendezvousOptions, SchemeHandler } from "./rendezvous-handler.ts";
import { tcpRendezvous } from "./tcp.ts";

/** Loaded when they are used. */
const fileRendezvous: RendezvousHandler = async (url, options, text) =>
  (await import("./file.ts")).fileRendezvous(url, options, text);
const redisRendezvous: RendezvousHandler = async (url, options) =>
  (await import("./redis.ts")).redisRendezvous(url, options);

const builtIn: ReadonlyMap<string, RendezvousHandler> = new Map([
  ["env", envRendezvous],
  ["tcp", tcpRendezvous],
  ["file", fileRendezvous],
  ["redis", redisRendezvous],
  ["rediss", redisRendezvous],
  ["redis+unix", redisRendezvous],
]);

/** Time after the limit in which a handler can end itself. */
const graceMs = 50;

/** @throws InvalidArgumentError for an invalid scheme, or one that has a handler already. */
export function checkScheme({ scheme }: SchemeHandler, known: readonly SchemeHandler[]): void {
  if (typeof scheme !== "string" || !/^[a-z][a-z0-9+.-]*$/.test(scheme)) {
    throw new InvalidArgumentError(`a scheme is a lower-case word such as "tcp", got ${JSON.stringify(scheme)}`, {
      argument: "scheme",
    });
  }
  if (builtIn.has(scheme) || known.some((each) => each.scheme === scheme)) {
    throw new InvalidArgumentError(`Rendezvous handler for ${scheme}:// already registered`, { argument: "scheme" });
  }
}

/**
 * Meets the other ranks of the job by a URL.
 * @param handlers Handlers for further schemes; the last one of a scheme is used, and takes precedence over a built-in
 * one.
 */
export async function meetAt(
  url: string,
  options: RendezvousOptions,
  handlers: readonly SchemeHandler[],
): Promise<Rendezvous> {
  if (typeof url !== "string") {
    throw new InvalidArgumentError(`the URL of a rendezvous must be a string, got ${describe(url)}`, {
      argument: "url",
    });
  }
  checkInteger("rank", options.rank);
  checkInteger("worldSize", options.worldSize);
  const parsed = URL.parse(url);
  const port = Number(/:(\d+)(?:[/?]|$)/.exec(url)?.[1] ?? 0);
  if (parsed === null && port > 65_535) checkPort(port);
  if (parsed === null) throw new InvalidArgumentError(`not a rendezvous URL: ${url}`, { argument: "url" });
  const scheme = parsed.protocol.slice(0, -1);
  const registered = handlers.findLast((each) => each?.scheme === scheme);
  if (registered !== undefined && typeof registered.handler !== "function") {
    throw new InvalidArgumentError(
      `RENDEZVOUS_HANDLER: the handler of ${scheme}:// must be a function, got ${describe(registered.handler)}`,
      { argument: "RENDEZVOUS_HANDLER" },
    );
  }
  const handler = registered?.handler ?? builtIn.get(scheme);
  if (handler === undefined) {
    // localhost:29500 is read as the scheme "localhost".
    const advice = /^\d+$/.test(parsed.pathname) ? `; did you mean tcp://${url}?` : ".";
    throw new InvalidArgumentError(
      `No rendezvous handler for ${scheme}://. Known are ${knownSchemes(handlers)}; registerRendezvousHandler adds others${advice}`,
      { argument: "url" },
    );
  }
  const inUrl = parsed.searchParams.has("rank") || parsed.searchParams.has("world_size");
  if (inUrl && (options.rank !== undefined || options.worldSize !== undefined)) {
    throw new InvalidArgumentError(`The url: ${url} has node-specific arguments(rank, world_size) already.`, {
      argument: "url",
    });
  }
  return withinLimit(scheme, handler, () => handler(parsed, options, url), options);
}

function knownSchemes(handlers: readonly SchemeHandler[]): string {
  const schemes = new Set([...builtIn.keys(), ...handlers.map(({ scheme }) => scheme)]);
  return [...schemes].map((scheme) => `${scheme}://`).join(", ");
}

/** A user's handler may ignore the limit. A rendezvous that completes too late is closed. */
async function withinLimit(
  scheme: string,
  handler: RendezvousHandler,
  meet: () => Promise<Rendezvous>,
  { timeout, signal }: RendezvousOptions,
): Promise<Rendezvous> {
  if (builtIn.get(scheme) === handler) return meet();
  const limitMs = timeoutMs(timeout, defaultTimeoutMs.store);
  signal?.throwIfAborted();
  const meeting = meet();
  try {
    return checked(scheme, await withLimit(meeting, limitMs + graceMs, () => tooLate(scheme, limitMs), signal));
  } catch (error) {
    Promise.resolve(meeting)
      .then(
        (late) => late?.close?.(),
        () => {},
      )
      .catch(() => {});
    throw error;
  }
}

function checked(scheme: string, met: unknown): Rendezvous {
  const { store, rank, worldSize } = (met ?? {}) as Partial<Record<keyof Rendezvous, unknown>>;
  if (typeof store === "object" && store !== null && Number.isSafeInteger(rank) && Number.isSafeInteger(worldSize)) {
    return met as Rendezvous;
  }
  throw new InvalidArgumentError(
    `the rendezvous handler of ${scheme}:// must resolve to { store, rank, worldSize }, a store and two integers`,
    { argument: "url" },
  );
}

function tooLate(scheme: string, limitMs: number): DistTimeoutError {
  return new DistTimeoutError(
    `the rendezvous handler of ${scheme}:// did not finish within ${Math.round(limitMs)} ms`,
    {
      code: "CONNECT_TIMEOUT",
      op: "rendezvous",
      timeoutMs: limitMs,
    },
  );
}

function checkInteger(argument: string, value: number | undefined): void {
  if (value === undefined || Number.isSafeInteger(value)) return;
  throw new InvalidArgumentError(`\`${argument}\` must be an integer. ${typeof value}: ${value}`, { argument });
}
