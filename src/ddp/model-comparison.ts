import { groupStore } from "../distributed/groups/group-store.ts";
import { type DistError, InvalidArgumentError } from "../errors/index.ts";
import type { ProcessGroup } from "../process-group/index.ts";
import type { Store } from "../store/store.ts";
import type { TensorFacts } from "./parameter.ts";

/** How often each group has compared models. All ranks do so equally often. */
const comparisons = new WeakMap<ProcessGroup, number>();
const decoder = new TextDecoder();

/** A tensor as the ranks compare it. */
type Described = readonly [name: string, dtype: string, ...shape: number[]];

/**
 * Compares the tensors of a model with those of the other Bun ranks, by the store: names, dtypes and shapes. PyTorch's
 * ranks leave nothing there and are not compared. Only digests are read, unless two differ.
 */
export class ModelComparison {
  readonly #group: ProcessGroup;
  readonly #store: Store | undefined;
  readonly #number: number;
  readonly #own: readonly Described[];
  #areAllBun = false;

  constructor(group: ProcessGroup, tensors: readonly TensorFacts[]) {
    this.#group = group;
    this.#store = groupStore(group, "ddp");
    this.#number = comparisons.get(group) ?? 0;
    comparisons.set(group, this.#number + 1);
    this.#own = tensors.map(({ name, dtype, shape }) => [name, dtype, ...shape]);
  }

  /** Shows the model of this rank; to be called before a collective in which all ranks take part. */
  async publish(): Promise<void> {
    const { timeoutMs: timeout, rank } = this.#group;
    const text = JSON.stringify(this.#own);
    await this.#store?.set(this.#key("model", rank), text, { timeout });
    await this.#store?.set(this.#key("digest", rank), digestOf(text), { timeout });
  }

  /** Whether all ranks are Bun's, as far as {@link difference} has found out. */
  get areAllBun(): boolean {
    return this.#areAllBun;
  }

  /** What differs on another rank; to be called after that collective. */
  async difference(): Promise<DistError | undefined> {
    const { timeoutMs: timeout, rank, name, size } = this.#group;
    const store = this.#store;
    if (store === undefined) return undefined;
    const own = digestOf(JSON.stringify(this.#own));
    const digests = await this.#digests(store);
    this.#areAllBun = !digests.includes(undefined);
    const other = digests.findIndex((digest) => digest !== undefined && digest !== own);
    if (other < 0 || other >= size) return undefined;
    const theirs: readonly Described[] = JSON.parse(
      decoder.decode(await store.get(this.#key("model", other), { timeout })),
    );
    const place = this.#own.findIndex((tensor, i) => JSON.stringify(tensor) !== JSON.stringify(theirs[i]));
    const at = place < 0 ? this.#own.length : place;
    return new InvalidArgumentError(
      `DDP expects same model across all ranks, but tensor ${at} is ${shown(this.#own[at])} on rank ${rank}, and ${shown(theirs[at])} on rank ${other}`,
      { code: "PARAMETERS_DIFFER", group: name, rank, peers: [other] },
    );
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
    return `${this.#number}/${what}/${rank}`;
  }
}

function digestOf(text: string): string {
  return Bun.hash(text).toString(36);
}

function shown(tensor: Described | undefined): string {
  if (tensor === undefined) return "missing";
  const [name, dtype, ...shape] = tensor;
  return `${name}, ${dtype} of shape [${shape.join(", ")}],`;
}
