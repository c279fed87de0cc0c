import { UnsupportedOperationError } from "../errors/index.ts";
import { hasEnded, onEndOf, type Work } from "./work.ts";

/** Starts an op in its turn; what follows it in the queue waits for the returned Work, if there is one. */
export type Turn = () => Work<unknown> | undefined;

/**
 * Keeps multi-step ops, and the ops called after them, in the order of the calls. Without it, the second step of an op
 * could run before or after the next op, differently on each rank.
 */
export class OpQueue {
  readonly #waiting: Turn[] = [];
  #current: Work<unknown> | undefined;
  #isPumping = false;
  #whenIdle: (() => void)[] = [];

  /** Whether what is added now has to wait. */
  get isBusy(): boolean {
    return this.#current !== undefined || this.#isPumping;
  }

  /** Starts an op when all that were added before have ended or returned no Work; immediately if there are none. */
  add(turn: Turn): void {
    this.#waiting.push(turn);
    this.#pump();
  }

  #pump(): void {
    // Ops that end immediately must not cause recursion.
    if (this.#isPumping) return;
    this.#isPumping = true;
    while (this.#current === undefined) {
      const turn = this.#waiting.shift();
      if (turn === undefined) break;
      const work = turn();
      if (work === undefined || hasEnded(work)) continue;
      this.#current = work;
      onEndOf(work, () => {
        this.#current = undefined;
        this.#pump();
      });
    }
    this.#isPumping = false;
    if (this.#current === undefined) for (const resolve of this.#whenIdle.splice(0)) resolve();
  }

  /** The op in progress, which everything in this queue waits for. */
  ahead(): Work<unknown> {
    if (this.#current !== undefined) return this.#current;
    throw new UnsupportedOperationError("wait() was called from within the start of an op; await it", {
      code: "WAIT_WOULD_DEADLOCK",
    });
  }

  /** Resolves when nothing is left. */
  idle(): Promise<void> {
    if (!this.isBusy) return Promise.resolve();
    return new Promise((resolve) => this.#whenIdle.push(resolve));
  }
}
