import { describe, describeNumber, InvalidArgumentError } from "../errors/index.ts";
import { agreeOnWorldSize, type Rendezvous } from "../rendezvous/index.ts";
import { LimitedStore } from "../store/limited-store.ts";
import type { Store } from "../store/store.ts";
import { defaultTimeoutMs, timeoutMs } from "../time/index.ts";
import type { AnyInitOptions } from "./init-options.ts";
import { rendezvous } from "./rendezvous.ts";

/** Meets the other ranks in the store that the options of `initProcessGroup` give, or where they or the environment say. */
export async function meet(options: AnyInitOptions): Promise<Rendezvous> {
  const url = options.init ?? options.initMethod;
  const { store, rank, worldSize } = options;
  const timeout = timeoutMs(options.timeout, defaultTimeoutMs.store);
  if (store === undefined) {
    return rendezvous(url ?? "env://", {
      timeout,
      ...(options.container && { container: options.container }),
      ...(rank !== undefined && { rank }),
      ...(worldSize !== undefined && { worldSize }),
    });
  }
  if (!isStore(store)) {
    throw new InvalidArgumentError(`initProcessGroup: store must be a Store, got ${describe(store)}`, {
      argument: "store",
    });
  }
  if (url !== undefined) throw new InvalidArgumentError("Cannot specify both init and store", { argument: "init" });
  if (worldSize === undefined || !Number.isInteger(worldSize) || worldSize < 1) {
    throw new InvalidArgumentError(`worldSize must be positive if using store, got ${describeNumber(worldSize)}`, {
      argument: "worldSize",
    });
  }
  if (rank === undefined || !Number.isInteger(rank) || rank < 0 || rank >= worldSize) {
    throw new InvalidArgumentError(
      `rank must be between 0 and ${worldSize - 1} if using store, got ${describeNumber(rank)}`,
      { argument: "rank" },
    );
  }
  const limited = LimitedStore.of(store);
  await agreeOnWorldSize(limited, { rank, worldSize }, { timeout });
  return { store: limited, rank, worldSize };
}

/** Checked by its methods, since it may come from another copy of the package. */
function isStore(store: unknown): store is Store {
  if (typeof store !== "object" || store === null) return false;
  const { get, set, compareSet } = store as Partial<Record<keyof Store, unknown>>;
  return [get, set, compareSet].every((method) => typeof method === "function");
}
