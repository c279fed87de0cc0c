import { BackendUnavailableError, DistTimeoutError, InvalidArgumentError } from "../../errors/index.ts";
import type { BackendContext } from "../../registry/index.ts";
import { DeliveryOrder } from "./delivery-order.ts";
import { Exchange } from "./exchange.ts";

const KEY = "fake/exchange";
const MAX_DELAY_MS = 2 ** 31 - 1;

/** Ranks of one group on their way to each other. */
interface Meeting {
  readonly exchange: Exchange;
  readonly present: Set<number>;
  readonly complete: PromiseWithResolvers<void>;
}

const meetings = new Map<string, Meeting>();

type Attendee = Pick<BackendContext, "store" | "rank" | "size" | "groupName" | "timeoutMs">;

/**
 * Meets the other ranks of a group. Only a token goes through the group's store; the exchange that it stands for is in
 * the memory of this thread.
 *
 * @throws BackendUnavailableError when rank 0 is elsewhere, DistTimeoutError (`CONNECT_TIMEOUT`) naming who is missing.
 */
export async function meetInThread(attendee: Attendee, seed: number | undefined): Promise<Exchange> {
  const { rank, size, groupName, timeoutMs } = attendee;
  const token = await shareToken(attendee, seed);
  const meeting = meetings.get(token);
  const init = { backend: "fake", group: groupName, rank };
  if (meeting === undefined) {
    throw new BackendUnavailableError(
      `fake: rank 0 of group "${groupName}" is in another process or Worker. The local mode needs all ranks in one ` +
        'thread: run them with localRanks() of bun-c10d/testing, or choose the option mode: "solo"',
      { ...init, code: "RANKS_APART" },
    );
  }
  if (meeting.exchange.order.seed !== seed) {
    throw new InvalidArgumentError(`fake: all ranks must give the same seed, rank ${rank} gave ${seed}`, {
      ...init,
      argument: "seed",
    });
  }
  meeting.present.add(rank);
  if (meeting.present.size === size) {
    meetings.delete(token);
    meeting.complete.resolve();
  }
  const timer = setTimeout(
    () => {
      meetings.delete(token);
      const missing = Array.from({ length: size }, (_, other) => other).filter((other) => !meeting.present.has(other));
      meeting.complete.reject(
        new DistTimeoutError(
          `group "${groupName}" (fake, rank ${rank} of ${size}): rank ${missing.join(", ")} did not come within ${timeoutMs} ms`,
          { ...init, code: "CONNECT_TIMEOUT", peers: missing, timeoutMs },
        ),
      );
    },
    Math.min(timeoutMs, MAX_DELAY_MS),
  );
  try {
    await meeting.complete.promise;
  } finally {
    clearTimeout(timer);
  }
  return meeting.exchange;
}

async function shareToken({ store, rank, size, timeoutMs }: Attendee, seed: number | undefined): Promise<string> {
  if (rank !== 0) return new TextDecoder().decode(await store.get(KEY, { timeout: timeoutMs }));
  const token = `${process.pid}/${crypto.randomUUID()}`;
  meetings.set(token, {
    exchange: new Exchange(size, new DeliveryOrder(seed)),
    present: new Set(),
    complete: Promise.withResolvers<void>(),
  });
  await store.set(KEY, token, { timeout: timeoutMs });
  return token;
}
