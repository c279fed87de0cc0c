import { groupStore } from "../distributed/groups/group-store.ts";
import type { ProcessGroup } from "../process-group/index.ts";
import type { Store } from "../store/store.ts";

/** How often each group has compared models. All ranks do so equally often. */
const comparisons = new WeakMap<ProcessGroup, number>();
const decoder = new TextDecoder();

/** The first thing that differs on another rank. */
export interface ModelDifference {
  readonly difference: string;
  readonly rank: number;
}

/** Something that must be the same on all ranks. */
export type Compared = readonly [what: string, value: string];

/**
 * Compares a model, and how it is trained, with those of the other Bun ranks, by the store. PyTorch's ranks leave nothing
 * there and are not compared. Only digests are read, unless two differ.
 */
export class ModelComparison {
  readonly #group: ProcessGroup;
  readonly #store: Store | undefined;
  readonly #number: number;
  readonly #part: string;
  readonly #own: readonly Compared[];
  #areAllBun = false;

  /** @param of The comparison of which this is a later part, of another name. */
  constructor(group: ProcessGroup, own: readonly Compared[], of?: ModelComparison, part = "model") {
    this.#group = group;
    this.#store = groupStore(group, "ddp");
    this.#number = of === undefined ? (comparisons.get(group) ?? 0) : of.#number;
    if (of === undefined) comparisons.set(group, this.#number + 1);
    this.#part = part;
    this.#own = own;
  }

  /** Shows the model of this rank; to be called before a collective in which all ranks take part. */
  async publish(): Promise<void> {
    const { timeoutMs: timeout, rank } = this.#group;
    const text = JSON.stringify(this.#own);
    await this.#store?.set(this.#key("text", rank), text, { timeout });
    await this.#store?.set(this.#key("digest", rank), digestOf(text), { timeout });
  }

  /** Whether all ranks are Bun's, as far as {@link difference} has found out. */
  get areAllBun(): boolean {
    return this.#areAllBun;
  }

  /** What differs on another rank; to be called after that collective. */
  async difference(): Promise<ModelDifference | undefined> {
    const { timeoutMs: timeout, rank } = this.#group;
    const store = this.#store;
    if (store === undefined) return undefined;
    const own = digestOf(JSON.stringify(this.#own));
    const digests = await this.#digests(store);
    this.#areAllBun = !digests.includes(undefined);
    const other = digests.findIndex((digest) => digest !== undefined && digest !== own);
    if (other < 0) return undefined;
    const text = await store.get(this.#key("text", other), { timeout });
    const [mine, theirs] = [new Map(this.#own), new Map(JSON.parse(decoder.decode(text)) as readonly Compared[])];
    const what = [...mine.keys(), ...theirs.keys()].find((each) => mine.get(each) !== theirs.get(each));
    if (what === undefined) return undefined;
    const shown = (values: ReadonlyMap<string, string>) => values.get(what) ?? "missing";
    const difference = `${what} is ${shown(mine)} on rank ${rank}, and ${shown(theirs)} on rank ${other}`;
    return { difference, rank: other };
  }

  async #digests(store: Store): Promise<(string | undefined)[]> {
    const limits = { timeout: this.#group.timeoutMs };
    const keys = Array.from({ length: this.#group.size }, (_, rank) => this.#key("digest", rank));
    if (await store.check(keys, limits))
      return (await store.multiGet(keys, limits)).map((each) => decoder.decode(each));
    return Promise.all(
      keys.map(async (key) =>
        (await store.check([key], limits)) ? decoder.decode(await store.get(key, limits)) : undefined,
      ),
    );
  }

  #key(what: string, rank: number): string {
    return `${this.#number}/${this.#part}/${what}/${rank}`;
  }
}

function digestOf(text: string): string {
  return Bun.hash(text).toString(36);
}
