import { DistTimeoutError } from "../../errors/index.ts";
import type { BackendContext } from "../../registry/index.ts";

type Store = BackendContext["store"];

/** C10D_MPI_DECISION of native/mpi_host.h. */
const KEY = "mpi/decision";
/** After so much time the store is asked again. */
const ASK_MS = 30_000;
/** Not sooner, though it may say at once that it has no time. */
const PAUSE_MS = 100;
/** After so much time what was decided is written again. */
const REPEAT_MS = 100;

/**
 * The store of a group, in which the first value of the key stays by which its ranks decide whether to call MPI: then none of
 * them calls it, where it would wait for the others without end, unless all do. Another value is refused.
 */
export function decidingStore(store: Store): Store {
  const set: Store["set"] = async (key, value, options) => {
    if (key !== KEY) return store.set(key, value, options);
    const decision = await store.compareSet(key, "", value, options);
    // Servers of older releases of PyTorch wake nobody who waits for what a compareSet has set.
    const repeat = async (): Promise<void> => store.set(key, decision, options);
    setTimeout(() => void repeat().catch(() => {}), REPEAT_MS).unref();
    // No error of the store, which the group would fail with.
    if (Buffer.compare(decision, Buffer.from(value)) !== 0) throw new Error("the ranks have decided otherwise");
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
 * What the ranks have decided, which is not to make the group if nothing was decided before. Undefined where the store is gone.
 * While that does not answer, it is asked again: a rank that stands still may host it.
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
