import type { Store } from "../../store/store.ts";
import { ForwardingStore } from "./forwarding-store.ts";

/**
 * The store of a group as the communicator of two of its ranks sees it: the key of its unique id is that of PyTorch, all
 * others are apart from those of the group.
 */
export class PairStore extends ForwardingStore {
  readonly #idKey: string;

  constructor(store: Store, idKey: string) {
    super(store);
    this.#idKey = idKey;
  }

  protected override named(key: string): string {
    return key === this.#idKey ? key : `messages/${this.#idKey}/${key}`;
  }
}
