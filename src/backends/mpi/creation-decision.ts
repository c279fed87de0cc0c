import { DistTimeoutError } from "../../errors/index.ts";
import type { BackendContext } from "../../registry/index.ts";

type Store = BackendContext["store"];

/** C10D_MPI_DECISION of native/process/mpi_host.h. */
const KEY = "mpi/decision";
/** Time-out of a store call; it is then repeated. */
const ASK_MS = 30_000;
/** Pause before that, for a store that times out at once. */
const PAUSE_MS = 100;
/** Delay after which the decision is written again. */
const REPEAT_MS = 100;

/**
 * The store of a group, which keeps the first value of the key by which the ranks decide whether to call MPI, and
 * refuses any other. So either all ranks call MPI or none does: one alone would wait there for the others forever.
 */
export function decidingStore(store: Store): Store {
  const set: Store["set"] = async (key, value, options) => {
    if (key !== KEY) return store.set(key, value, options);
    const decision = await store.compareSet(key, "", value, options);
    // Servers of older PyTorch releases do not wake clients that wait for a key set by compareSet.
    const repeat = async (): Promise<void> => store.set(key, decision, options);
    setTimeout(() => void repeat().catch(() => {}), REPEAT_MS).unref();
    // Not an error of the store: the group would fail with that.
    if (Buffer.compare(decision, Buffer.from(value)) !== 0) throw new Error("the ranks decided otherwise");
  };
  return new Proxy(store, {
    get(target, name) {
      if (name === "set") return set;
      const member: unknown = Reflect.get(target, name, target);
      return typeof member === "function" ? member.bind(target) : member;
    },
  });
}

/**
 * What the ranks decided; if nothing was decided yet, not to make the group. Undefined if the store is gone. A store
 * that does not answer is asked again: the rank that hosts it may be suspended.
 */
export async function decide(store: Store, rank: number): Promise<Uint8Array | undefined> {
  const givenUp = new Uint8Array(Int32Array.of(rank).buffer);
  for (;;) {
    try {
      return await store.compareSet(KEY, "", givenUp, { timeout: ASK_MS });
    } catch (error) {
      if (!(error instanceof DistTimeoutError)) return undefined;
      await Bun.sleep(PAUSE_MS);
    }
  }
}
