import {
  BackendUnavailableError,
  type DistError,
  DistTimeoutError,
  InvalidArgumentError,
} from "../../../errors/index.ts";
import type { BackendContext, Clock } from "../../../registry/index.ts";
import { DeliveryOrder } from "./delivery-order.ts";
import { Exchange } from "./exchange.ts";

const KEY = "fake/exchange";
const SAME_GROUPS = "All ranks of the job, members or not, must make the same groups in the same order";
/** Prefix of the tokens of this thread. */
const HERE = `${process.pid}/${crypto.randomUUID()}`;

export type MeetingRank = Pick<BackendContext, "store" | "rank" | "size" | "groupName" | "timeoutMs" | "clock">;

/** Outcome of a meeting. */
export type MeetingOutcome =
  | { readonly kind: "met" }
  | { readonly kind: "late"; readonly missing: readonly number[] }
  /** Another rank had given up waiting before this one arrived. */
  | { readonly kind: "given up" }
  | { readonly kind: "other seed" }
  /** The sizes that two ranks gave. */
  | { readonly kind: "other size"; readonly sizes: readonly [number, number] };

/** Where the ranks of one group wait for each other. */
export class Meeting {
  readonly exchange: Exchange;
  readonly #present = new Set<number>();
  readonly #complete = Promise.withResolvers<MeetingOutcome>();
  #over = false;
  #givenUp = false;

  constructor(size: number, seed: number | undefined, clock: Clock) {
    this.exchange = new Exchange(size, new DeliveryOrder(seed), clock);
  }

  /** Whether it has ended: all ranks arrived, or some did not in time. */
  get over(): boolean {
    return this.#over;
  }

  /** Whether a rank gave up waiting. */
  get givenUp(): boolean {
    return this.#givenUp;
  }

  /** A rank arrives, and waits for the others. */
  async meet(
    rank: number,
    ranks: number,
    seed: number | undefined,
    timeoutMs: number,
    clock: Clock,
  ): Promise<MeetingOutcome> {
    const { order, size } = this.exchange;
    if (this.#givenUp) return { kind: "given up" };
    if (order.seed !== seed) return { kind: "other seed" };
    if (ranks !== size) this.#end({ kind: "other size", sizes: [size, ranks] });
    else if (this.#present.add(rank).size === size) this.#end({ kind: "met" });
    const { promise: late, resolve } = Promise.withResolvers<MeetingOutcome>();
    using _ = clock.schedule(timeoutMs, () => {
      this.#over = true;
      this.#givenUp = true;
      const missing = Array.from({ length: size }, (_, other) => other).filter((other) => !this.#present.has(other));
      resolve({ kind: "late", missing });
    });
    return await Promise.race([this.#complete.promise, late]);
  }

  #end(outcome: MeetingOutcome): void {
    this.#over = true;
    this.#complete.resolve(outcome);
  }
}

/** Throws the error of ranks that did not meet. */
export function requireMet(outcome: MeetingOutcome, member: MeetingRank, seed: number | undefined): void {
  const { rank, size, groupName: group, timeoutMs } = member;
  const init = { backend: "fake", group, rank };
  if (outcome.kind === "other seed") {
    const text = `fake: all ranks must give the same seed, rank ${rank} gave ${seed}`;
    throw new InvalidArgumentError(text, { ...init, argument: "seed" });
  }
  if (outcome.kind === "other size") {
    const [first, second] = outcome.sizes;
    const text = `group "${group}" (fake, rank ${rank} of ${size}): one rank makes it of ${first} ranks, another one of ${second}. ${SAME_GROUPS}`;
    throw new InvalidArgumentError(text, { ...init, argument: "ranks" });
  }
  if (outcome.kind === "given up") throw tooLate(member);
  if (outcome.kind === "late") {
    const { missing: peers } = outcome;
    const text = `group "${group}" (fake, rank ${rank} of ${size}): ${peers.length > 1 ? "ranks" : "rank"} ${peers.join(", ")} did not arrive within ${timeoutMs} ms. ${SAME_GROUPS}`;
    throw new DistTimeoutError(text, { ...init, code: "CONNECT_TIMEOUT", peers, timeoutMs });
  }
}

/** The error of a rank that arrives after its peers in this thread have met, or given up. */
function tooLate({ rank, size, groupName: group, timeoutMs }: MeetingRank): DistError {
  const text = `group "${group}" (fake, rank ${rank} of ${size}): its ranks met without this one, or gave up. ${SAME_GROUPS}`;
  return new DistTimeoutError(text, { backend: "fake", group, rank, code: "CONNECT_TIMEOUT", timeoutMs });
}

/** The error of a rank that cannot reach its peers. */
export function ranksApart({ rank, groupName: group }: MeetingRank): DistError {
  return new BackendUnavailableError(
    `fake: rank 0 of group "${group}" is in another process or Worker. The local mode needs all ranks in one thread, ` +
      "by localRanks(), or in Workers of one process, by workerRanks(), both from bun-c10d/testing; or choose the " +
      'option mode: "solo"',
    { backend: "fake", group, rank, code: "RANKS_APART" },
  );
}

/** Shares a token that rank 0 makes with all ranks, through the group's store. */
export async function shareToken(member: MeetingRank, make: () => string): Promise<string> {
  const { store, rank, timeoutMs } = member;
  if (rank !== 0) return new TextDecoder().decode(await store.get(KEY, { timeout: timeoutMs }));
  const token = make();
  await store.set(KEY, token, { timeout: timeoutMs });
  return token;
}

const meetings = new Map<string, Meeting>();

/**
 * Meets the other ranks of a group in this thread. Only a token goes through the group's store; the exchange that it
 * stands for is in the memory of this thread.
 *
 * @throws BackendUnavailableError when rank 0 is elsewhere, DistTimeoutError (`CONNECT_TIMEOUT`) naming absent ranks.
 */
export async function meetInThread(member: MeetingRank, seed: number | undefined): Promise<Exchange> {
  const token = await shareToken(member, () => {
    const made = `${HERE}/${crypto.randomUUID()}`;
    meetings.set(made, new Meeting(member.size, seed, member.clock));
    return made;
  });
  const meeting = meetings.get(token);
  if (meeting === undefined) throw token.startsWith(`${HERE}/`) ? tooLate(member) : ranksApart(member);
  const arriving = meeting.meet(member.rank, member.size, seed, member.timeoutMs, member.clock);
  if (meeting.over) meetings.delete(token);
  const outcome = await arriving;
  if (meeting.over) meetings.delete(token);
  requireMet(outcome, member, seed);
  return meeting.exchange;
}
