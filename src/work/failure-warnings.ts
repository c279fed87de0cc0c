import { type FailedWork, isObserved, warnIfUnobserved } from "./work.ts";

/** What is kept of one turn of the event loop, and of the causes that have been warned about. */
const MAX_KEPT = 100;

/**
 * The process warnings about the failed ops of one group that nobody has looked at by the next turn of the event loop: at
 * most one per turn, and one per cause, since every op of a group that has failed fails.
 */
export class FailureWarnings {
  readonly #known = new Set<string>();
  #fresh: { readonly work: FailedWork; readonly cause: string }[] = [];

  /** @param cause What ops have in common that fail for the same reason. */
  add(work: FailedWork, cause: string): void {
    if (this.#known.has(cause)) return;
    if (this.#fresh.length < MAX_KEPT) this.#fresh.push({ work, cause });
    if (this.#fresh.length === 1) setImmediate(() => this.#warn());
  }

  #warn(): void {
    const fresh = this.#fresh;
    this.#fresh = [];
    const first = fresh.find(({ work }) => !isObserved(work));
    if (first === undefined) return;
    if (this.#known.size >= MAX_KEPT) this.#known.clear();
    this.#known.add(first.cause);
    warnIfUnobserved(first.work);
  }
}
