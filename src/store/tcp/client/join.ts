import { DistTimeoutError } from "../../../errors/index.ts";
import { pause } from "../../../time/index.ts";
import { hostPort } from "../host-address.ts";
import { joinKey } from "../wire/protocol.ts";
import { readBytes } from "../wire/reply.ts";
import type { CallLimit } from "./call.ts";
import { AddRequest, getRaw } from "./requests.ts";
import type { ServerLink } from "./server-link.ts";

/**
 * Counts this client among the workers; on the host of the server also waits until there are `worldSize`.
 * @throws DistTimeoutError `CONNECT_TIMEOUT` with the number of clients that joined.
 */
export async function join(link: ServerLink, isHost: boolean, worldSize: number, limit: CallLimit): Promise<void> {
  let joined = await link.request(new AddRequest(joinKey, 1, false, true), limit);
  link.joinedAs ??= joined;
  if (!isHost) return;
  for (let delay = 1; joined < worldSize; delay = Math.min(delay * 1.5, 10)) {
    if (performance.now() >= limit.deadline) throw tooFew(link, joined, worldSize, limit.ms);
    await pause(delay, limit.signal);
    const count = await link.request(getRaw("waitForWorkers", joinKey, readBytes), limit).catch((error: unknown) => {
      throw error instanceof DistTimeoutError ? tooFew(link, joined, worldSize, limit.ms, error) : error;
    });
    joined = Number(new TextDecoder().decode(count));
  }
}

function tooFew(
  link: ServerLink,
  joined: number,
  worldSize: number,
  limitMs: number,
  cause?: DistTimeoutError,
): DistTimeoutError {
  const { host, port } = link.main.endpoint;
  return new DistTimeoutError(
    `Timed out after ${Number((limitMs / 1000).toFixed(1))} seconds waiting for clients. ${joined}/${worldSize} clients joined. ` +
      `Check that all ranks were started, with ${hostPort(host, port)} as their store.`,
    { code: "CONNECT_TIMEOUT", op: "connect", timeoutMs: limitMs, host, port, arrived: joined, cause },
  );
}
