/**
 * Keeps ops that are made of several steps in the order in which they were called: those of one lane run one after the
 * other. Without it the second step of one could come before or after the next op, differently on each rank.
 */
export class OpLanes {
  readonly #tails = new Map<string, Promise<unknown>>();

  /** Whether anything in the lane has not ended. */
  isBusy(lane: string): boolean {
    return this.#tails.has(lane);
  }

  /** Settles when all that any lane holds now has ended; undefined if all are empty. Never rejects. */
  tails(): Promise<unknown> | undefined {
    return this.#tails.size === 0 ? undefined : Promise.all(this.#tails.values());
  }

  /** Runs `body` when all that the lane held before has ended. The first step is taken at once if the lane is empty. */
  run<T>(lane: string, body: () => Promise<T>): Promise<T> {
    const result = this.#tails.get(lane)?.then(body) ?? body();
    const tail: Promise<unknown> = result.then(ignore, ignore).then(() => {
      if (this.#tails.get(lane) === tail) this.#tails.delete(lane);
    });
    this.#tails.set(lane, tail);
    return result;
  }
}

function ignore(): void {}
