import { pause } from "../../../time/index.ts";
import { queueEmpty } from "../../store.ts";
import { QueryType } from "../wire/protocol.ts";
import { constantReader, readBytes, readI64, thenReader } from "../wire/reply.ts";
import type { CallLimit } from "./call.ts";
import type { KeyWaits } from "./key-waits.ts";
import { KeyRequest } from "./requests.ts";
import type { ServerLink } from "./server-link.ts";

/**
 * Removes the first element of a queue, waiting for one where `block` is set.
 * @throws QueueEmptyError, DistTimeoutError.
 */
export async function queuePop(
  link: ServerLink,
  waits: KeyWaits,
  key: string,
  block: boolean,
  limit: CallLimit,
): Promise<Uint8Array> {
  for (let delay = 0; ; delay = Math.min(delay * 2 + 1, 50)) {
    const element = await link.request(new KeyRequest("queuePop", QueryType.QUEUE_POP, key, false, reader), limit);
    if (element !== undefined) return element;
    if (!block) throw queueEmpty(key);
    if (performance.now() >= limit.deadline) throw waits.timeout("queuePop", [key], limit.ms);
    // A plain key of the same name ends the wait at once, so pause before the next attempt.
    if (delay > 0) await pause(delay, limit.signal);
    await waits.until("queuePop", [key], limit);
  }
}

/** Reads the length before the pop, and the element unless the length was 0. */
function reader() {
  return thenReader<number | bigint, Uint8Array | undefined>(readI64, (length) =>
    length > 0 ? readBytes : constantReader(undefined),
  );
}
