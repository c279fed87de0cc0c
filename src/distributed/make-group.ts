import { DistBackendError, describe } from "../errors/index.ts";
import { type DeviceBackend, ProcessGroup, type ProcessGroupInit } from "../process-group/index.ts";
import {
  type Backend,
  type BackendContext,
  type BackendPlugin,
  type Logger,
  prefixedLogger,
  withMiddleware,
} from "../registry/index.ts";
import { PrefixStore } from "../store/index.ts";
import type { Store } from "../store/store.ts";
import type { DeviceType } from "../tensor/index.ts";

export interface GroupPlan extends Omit<ProcessGroupInit, "backends"> {
  readonly plugins: ReadonlyMap<DeviceType, BackendPlugin>;
  /** Store of the parent; the group's own keys are under its name. */
  readonly store: Store;
  /** Checked options of each plugin. */
  readonly options: ReadonlyMap<BackendPlugin, object>;
  readonly logger: Logger;
}

const optionsOf = new WeakMap<ProcessGroup, ReadonlyMap<BackendPlugin, object>>();

/**
 * Connects the backends of a group and makes it. The store prefixes are PyTorch's ("<group>/" and "<device>/" with a
 * slash of their own), so that its ranks can be members.
 */
export async function makeGroup(plan: GroupPlan): Promise<ProcessGroup> {
  const groupStore = new PrefixStore(`${plan.name}/`, plan.store);
  const backends = new Map<DeviceType, DeviceBackend>();
  try {
    for (const [type, plugin] of plan.plugins) {
      const context: BackendContext = {
        store: new PrefixStore(`${type}/`, groupStore),
        rank: plan.rank,
        size: plan.globalRanks.length,
        globalRanks: plan.globalRanks,
        groupName: plan.name,
        groupDescription: plan.description,
        device: { type, index: 0 },
        timeoutMs: plan.timeoutMs,
        options: plan.options.get(plugin) ?? {},
        logger: prefixedLogger(plan.logger, `${plugin.name}, group "${plan.name}", rank ${plan.rank}: `),
      };
      const backend = requireBackend(plugin.name, plan.name, await plugin.create(context));
      // Before middleware, which may throw: what is connected has to be closed.
      backends.set(type, { plugin, backend });
      backends.set(type, { plugin, backend: withMiddleware(backend, context) });
    }
  } catch (error) {
    await Promise.allSettled([...backends.values()].map(async ({ backend }) => backend.close()));
    throw error;
  }
  const group = new ProcessGroup({ ...plan, backends });
  optionsOf.set(group, plan.options);
  return group;
}

/** The checked options that a group was made with. */
export function optionsOfGroup(group: ProcessGroup): ReadonlyMap<BackendPlugin, object> {
  return optionsOf.get(group) ?? new Map();
}

/** A plugin may be plain JavaScript, and the class that of another copy of this package: what counts are the methods. */
function requireBackend(name: string, group: string, made: unknown): Backend {
  const methods = ["allReduce", "abort", "close"];
  if (typeof made === "object" && made !== null && methods.every((method) => method in made)) return made as Backend;
  throw new DistBackendError(
    `create() of backend "${name}" must resolve to an instance of a class that extends Backend, got ${describe(made)}`,
    { backend: name, group },
  );
}
