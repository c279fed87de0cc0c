import type { AsyncLocalStorage } from "node:async_hooks";
import type { DependencyContainer } from "tsyringe";
import { InvalidArgumentError, warn } from "../errors/index.ts";
import type { ProcessGroup } from "../process-group/index.ts";
import type { OwnStatus } from "../status/index.ts";
import type { Store } from "../store/store.ts";
import type { DeviceType } from "../tensor/index.ts";

/** The default group of a rank and what belongs to it. */
export interface World {
  /** The same on all ranks, and no other world has it. */
  readonly id: string;
  readonly group: ProcessGroup;
  readonly store: Store;
  /** Part of the store that the groups live in. */
  readonly base: Store;
  /** Identifies the meeting of the ranks, since one store may serve several. */
  readonly meeting: string;
  readonly container: DependencyContainer;
  /** Why its groups have no backend for these types of device, where that was not the user's choice. */
  readonly absent: ReadonlyMap<DeviceType, string>;
  /** Status record of this rank, unless records are turned off or there can be none. */
  readonly status: OwnStatus | undefined;
  /** How long the rank that hosts the store waits for the others to leave it. */
  readonly storeDrain: { limitMs: number };
  /** All groups by name, the default one included. */
  readonly groups: Map<string, ProcessGroup>;
  /** Number of the next group; every rank counts every `newGroup`, whether it is a member or not. */
  nextGroup: number;
  /** Settles when all groups begun so far have compared their members. */
  agreement: Promise<unknown>;
}

/** State of one rank. There is one per process, and one per rank where several share a process. */
export class DistContext {
  readonly layout: number = LAYOUT;
  world: World | undefined;
  /** Set while `initProcessGroup()` is running. */
  initializing = false;
  #warnedNonMember = false;

  /** @throws InvalidArgumentError when there is no default group. */
  require(): World {
    if (this.world) return this.world;
    const advice = this.initializing ? "to await initProcessGroup()" : "to call initProcessGroup()";
    throw new InvalidArgumentError(`Default process group has not been initialized, please make sure ${advice}`, {
      code: "NOT_INITIALIZED",
    });
  }

  /** Warns, once, that an op ran on a group that this rank is not in. */
  warnNonMember(op: string): void {
    if (this.#warnedNonMember) return;
    this.#warnedNonMember = true;
    warn(`${op} has no effect: this rank does not belong to the given group`, "NOT_A_MEMBER");
  }
}

const KEY = Symbol.for("bun-c10d.context");
/** To be raised when a {@link DistContext}, or what it refers to, changes so that older copies cannot use it. */
const LAYOUT = 2;
/** Made for the first of several ranks in this process: loading its module takes a millisecond. */
let scoped: AsyncLocalStorage<DistContext> | undefined;
const shared = globalThis as { [KEY]?: DistContext };

/** The context of the calling code. */
export function currentContext(): DistContext {
  const inScope = scoped?.getStore();
  if (inScope) return inScope;
  shared[KEY] ??= new DistContext();
  if (shared[KEY].layout === LAYOUT) return shared[KEY];
  // Another version in the same process; each would mistake the other's groups for its own.
  throw new InvalidArgumentError(
    `this process has loaded two incompatible versions of bun-c10d (state ${shared[KEY].layout} and ${LAYOUT}): ` +
      "make all packages use one (`bun pm ls bun-c10d` lists them)",
    { code: "VERSION_MISMATCH" },
  );
}

/** Whether this is the one rank of the process, rather than one of several that share it. */
export function isOwnProcess(context: DistContext): boolean {
  return context === shared[KEY];
}

/** Runs `body` as a separate rank in this process. */
export function withContext<T>(context: DistContext, body: () => T): T {
  const { AsyncLocalStorage: Scope } = process.getBuiltinModule("node:async_hooks");
  scoped ??= new Scope<DistContext>();
  return scoped.run(context, body);
}
