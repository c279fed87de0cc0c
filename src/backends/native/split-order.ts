import { type Clock, scheduleOn } from "../../registry/index.ts";
import type { DeferredWork, Work } from "../../work/index.ts";
import type { Awaited } from "./lazy-work.ts";

/** Ops that wait for a place before them, submitted together. */
interface HeldOps {
  readonly works: readonly DeferredWork[];
  /** @param waitedMs How much of their time-out is over. */
  submit(waitedMs: number): readonly Work<void>[];
  readonly since: number;
  readonly timer: Disposable;
  readonly submitted: PromiseWithResolvers<void>;
}

/** The place of a split among the ops of its group. */
interface Place {
  /** Called when it is the first. */
  begin(): void;
}

/**
 * The order of a group's ops and of the splits of it, which has to be the same on all ranks. A split begins some time
 * after its call, when the ranks have agreed on it; ops that are submitted in between wait until it is over.
 */
export class SplitOrder {
  readonly #clock: Clock;
  #queue: (HeldOps | Place)[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether ops have to wait. */
  get holds(): boolean {
    return this.#queue.length > 0;
  }

  /** Number of ops that wait. */
  get waiting(): number {
    return this.#queue.reduce((sum, each) => sum + ("works" in each ? each.works.length : 0), 0);
  }

  /** Takes the next place. `begun` resolves when what is before it has been submitted; it is kept until disposed of. */
  place(): Disposable & { readonly begun: Promise<void> } {
    const { promise, resolve } = Promise.withResolvers<void>();
    const place: Place = { begin: resolve };
    this.#queue.push(place);
    if (this.#queue[0] === place) resolve();
    return {
      begun: promise,
      [Symbol.dispose]: () => {
        this.#queue = this.#queue.filter((each) => each !== place);
        this.#advance();
      },
    };
  }

  /** Holds ops back, but no longer than their time-out: then the backend ends them. */
  hold(works: readonly DeferredWork[], limitMs: number, submit: HeldOps["submit"]): void {
    const timer = scheduleOn(this.#clock, limitMs, () => this.flush());
    const submitted = Promise.withResolvers<void>();
    this.#queue.push({ works, submit, since: performance.now(), timer, submitted });
  }

  /** Resolves when all that waits now has been submitted. */
  async flowing(): Promise<void> {
    const last = this.#queue.findLast((each) => "works" in each);
    if (last === undefined || !("works" in last)) return;
    await last.submitted.promise;
  }

  /** Submits all that wait, since the group has failed or is going to. */
  flush(): void {
    const places = this.#queue.filter((each) => !("works" in each));
    const held = this.#queue.filter((each) => "works" in each);
    this.#queue = places;
    for (const each of held) submit(each);
  }

  #advance(): void {
    for (let next = this.#queue[0]; next !== undefined; next = this.#queue[0]) {
      if (!("works" in next)) {
        next.begin();
        return;
      }
      this.#queue.shift();
      submit(next);
    }
  }
}

function submit({ works, submit, since, timer, submitted }: HeldOps): void {
  timer[Symbol.dispose]();
  const actual = submit(performance.now() - since);
  for (const [i, work] of works.entries()) {
    const own = actual[i];
    if (own !== undefined) work.follow(own);
  }
  submitted.resolve();
}

/** For {@link LazyWork}. */
export const splitting: Awaited = {
  what: "the group of a newGroup() or splitGroup() that was called before it",
  remedy: "await the Work, or that group first",
};
