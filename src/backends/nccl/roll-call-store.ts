import type { Store, StoreCallOptions } from "../../store/store.ts";
import { ForwardingStore } from "./forwarding-store.ts";

const NO = new Uint8Array();
const YES = new Uint8Array([1]);

/**
 * The store of a communicator in which each Bun rank says that it is one. {@link get} of the question is answered at
 * once: it has a value if all ranks have said so, as they have when NCCL has connected them. Ranks of PyTorch do not.
 */
export class RollCallStore extends ForwardingStore {
  readonly #question: string;
  readonly #size: number;

  constructor(store: Store, question: string, size: number) {
    super(store);
    this.#question = question;
    this.#size = size;
  }

  /** To be called before the communicator is made. */
  async answer(rank: number, options: StoreCallOptions): Promise<void> {
    await this.set(this.#markOf(rank), YES, options);
  }

  override async get(key: string, options?: StoreCallOptions): Promise<Uint8Array> {
    if (key !== this.#question) return super.get(key, options);
    const marks = Array.from({ length: this.#size }, (_, rank) => this.#markOf(rank));
    return (await this.check(marks, options)) ? YES : NO;
  }

  #markOf(rank: number): string {
    return `${this.#question}/is_bun/${rank}`;
  }
}
