import { type BackendContext, scheduleOn } from "../../registry/index.ts";

/** How often ranks look whether another one has left, while they make a communicator with it. */
const LOOK_EVERY_MS = 150;
/** How long a call of the store may take. */
const LOOK_LIMIT_MS = 5_000;
const LEAVE_LIMIT_MS = 400;
const ANY_KEY = "left/any";
const keyOf = (rank: number): string => `left/${rank}`;
const decoder = new TextDecoder();

/**
 * Which ranks have closed a group whose communicators are made by its ops. NCCL waits for a rank that is never going to
 * make its part of one; once a communicator is made, its ranks watch each other.
 */
export class Departures {
  readonly #context: Pick<BackendContext, "store" | "clock" | "rank">;

  constructor(context: Pick<BackendContext, "store" | "clock" | "rank">) {
    this.#context = context;
  }

  /** Says that this rank leaves, and which communicators it has made. Never rejects. */
  async leave(made: readonly string[]): Promise<void> {
    const { store, rank } = this.#context;
    const limits = { timeout: LEAVE_LIMIT_MS };
    try {
      await store.set(keyOf(rank), JSON.stringify(made), limits);
      await store.set(ANY_KEY, "1", limits);
    } catch {
      // The store is lost with the rank that hosted it.
    }
  }

  /** The first of these ranks that has left without having made a communicator. Never rejects. */
  async missing(idKey: string, ranks: readonly number[]): Promise<number | undefined> {
    const { store, rank: own } = this.#context;
    const limits = { timeout: LOOK_LIMIT_MS };
    try {
      if (!(await store.check([ANY_KEY], limits))) return undefined;
      for (const rank of ranks) {
        if (rank === own || !(await store.check([keyOf(rank)], limits))) continue;
        const made: unknown = JSON.parse(decoder.decode(await store.get(keyOf(rank), limits)));
        if (!Array.isArray(made) || !made.includes(idKey)) return rank;
      }
    } catch {
      // A store that does not answer is reported by the calls that need its values.
    }
    return undefined;
  }

  /** Calls `giveUp` once if one of these ranks has left without having made a communicator, unless disposed of before. */
  watch(idKey: string, ranks: readonly number[], giveUp: (rank: number) => void): Disposable {
    let isOver = false;
    let timer: Disposable | undefined;
    const look = async (): Promise<void> => {
      const rank = await this.missing(idKey, ranks);
      if (isOver) return;
      if (rank === undefined) lookLater();
      else giveUp(rank);
    };
    const lookLater = (): void => {
      timer = scheduleOn(this.#context.clock, LOOK_EVERY_MS, () => void look());
    };
    lookLater();
    return {
      [Symbol.dispose]: () => {
        isOver = true;
        timer?.[Symbol.dispose]();
      },
    };
  }
}
