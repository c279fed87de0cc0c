import { type FailedWork, isObserved, warnIfUnobserved } from "./work.ts";

/** Maximum number of failures kept in one turn of the event loop, and of causes remembered. */
const MAX_KEPT = 100;

/**
 * Emits process warnings about the failed ops of one group that are not observed by the next turn of the event loop: at
 * most one per turn, and one per cause, since every op of a failed group fails.
 */
export class FailureWarnings {
  readonly #known = new Set<string>();
  #fresh: { readonly work: FailedWork; readonly cause: string }[] = [];

  /** @param cause Identifies the reason of the failure: the same for all ops that fail for it. */
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
