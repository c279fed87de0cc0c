import { DebugLevel, getDebugLevel } from "../../environment/index.ts";
import { DistBackendError, describe } from "../../errors/index.ts";
import { nanCheck } from "../../middleware/nan-check.ts";
import {
  callUserFunction,
  closeQuietly,
  created,
  endBackend,
  GuardedBackend,
  type MiddlewareHost,
  Pipeline,
  ProcessGroup,
  type ProcessGroupInit,
} from "../../process-group/index.ts";
import {
  type Backend,
  type BackendContext,
  type BackendPlugin,
  type BackendRegistry,
  type Capabilities,
  type Clock,
  commonCapabilities,
  type Logger,
  type Middleware,
  prefixedLogger,
  type SplitPlace,
} from "../../registry/index.ts";
import { capabilitiesFault } from "../../registry/plugin-shape.ts";
import { PrefixStore } from "../../store/index.ts";
import type { Store } from "../../store/store.ts";
import { ANY_INDEX, type Device, type DeviceType } from "../../tensor/index.ts";
import { traceOps } from "../op-spans.ts";
import { agreedCapabilities } from "./agreed-capabilities.ts";
import type { ConnectedCheck } from "./connected-check.ts";
import { DebugLevelGuard, glooFor, isCompared } from "./debug-level-guard.ts";

export interface GroupPlan extends Omit<ProcessGroupInit, "pipelines"> {
  readonly plugins: ReadonlyMap<DeviceType, BackendPlugin>;
  /** Store of the parent; the group's own keys are under its name. */
  readonly store: Store;
  /** Checked options of each plugin. */
  readonly options: ReadonlyMap<BackendPlugin, object>;
  readonly logger: Logger;
  readonly clock: Clock;
  /** Where Gloo comes from, over which ranks compare their collectives at debug level DETAIL. */
  readonly registry: BackendRegistry;
  /** Whether tensors are searched for NaN before they are sent. */
  readonly checkForNan: boolean;
  /** The group that it is split from, by the backends that can, and the color of its ranks. */
  readonly splitFrom?: SplitFrom;
  /** Wrapped around the backends, the first outermost. */
  readonly middleware: readonly Middleware[];
}

/** A group that another one is split from. */
export interface SplitFrom {
  readonly place: GroupSplit | undefined;
  readonly color: number;
}

/** The place of a split among the ops of a group. */
export interface GroupSplit extends SplitPlace {
  readonly deviceType: DeviceType;
  readonly plugin: BackendPlugin;
}

const optionsOf = new WeakMap<ProcessGroup, ReadonlyMap<BackendPlugin, object>>();
const nanChecked = new WeakSet<ProcessGroup>();

/**
 * Connects the backends of a group and makes it. The store prefixes are PyTorch's ("<group>/" and "<device>/", each
 * with its own slash), so that its ranks can be members.
 */
export async function makeGroup(plan: GroupPlan): Promise<ProcessGroup> {
  const pipelines: Pipeline[] = [];
  await traceOps();
  const helpers: Backend[] = [];
  try {
    for (const [type, plugin] of plan.plugins) {
      const index = plugin.anyDevice === true && type !== "cpu" ? ANY_INDEX : 0;
      const device = plan.boundDevice?.type === type ? plan.boundDevice : { type, index };
      const { pipeline, context, gloo } = await connect(plan, device, plugin, pipelines);
      // Before middleware, which may throw: what is connected must be closed.
      pipelines.push(pipeline);
      const check = gloo && (await desyncCheckFor(pipeline, context, gloo));
      if (check !== undefined) helpers.push(check.backend);
      const checks = check === undefined ? [] : [check.middleware];
      // Not twice if the user has registered it.
      if (plan.checkForNan && !plan.middleware.includes(nanCheck)) checks.push(nanCheck);
      await pipeline.wrap([...checks, ...plan.middleware], plan.timeoutMs, (name) =>
        surroundings(name, pipeline, context, plan),
      );
    }
  } catch (error) {
    await Promise.all(pipelines.map((pipeline) => closeQuietly(pipeline, plan.name)));
    // One that the middleware has not taken over yet; the others are closed already.
    await Promise.all(
      helpers.map((backend) => endBackend(backend, backend.name, plan.name, "the group could not be made")),
    );
    throw error;
  }
  const group = new ProcessGroup({ ...plan, pipelines });
  optionsOf.set(group, plan.options);
  if (plan.checkForNan) nanChecked.add(group);
  return group;
}

/** The check of debug level DETAIL, loaded only then. */
async function desyncCheckFor(
  { plugin }: Pipeline,
  context: BackendContext,
  gloo: BackendPlugin,
): Promise<ConnectedCheck> {
  const { connectDesyncCheck } = await import("./connected-check.ts");
  return connectDesyncCheck({ context, plugin, gloo, connect: backendFor });
}

/** A backend as it has been connected. */
interface Connected {
  readonly pipeline: Pipeline;
  readonly context: BackendContext;
  /** Gloo, if the ranks compare their collectives over it. */
  readonly gloo: BackendPlugin | undefined;
}

async function connect(
  plan: GroupPlan,
  device: Device,
  plugin: BackendPlugin,
  siblings: readonly Pipeline[],
): Promise<Connected> {
  const context = contextOf(plan, device, plugin);
  const canCompare = isCompared(plugin, context);
  const isDetail = canCompare && getDebugLevel() === DebugLevel.DETAIL;
  const gloo = isDetail ? await glooFor(plugin, context, plan.registry) : undefined;
  const guard = canCompare ? new DebugLevelGuard(context, plugin.name, gloo !== undefined) : undefined;
  const backend = await backendFor(plugin, context, sourceOf(plan, device, plugin)).catch(async (error: unknown) => {
    throw (await guard?.difference()) ?? error;
  });
  try {
    await guard?.check(backend);
    // The plugin's table is the upper bound; a backend in plain JavaScript may have no table.
    const own = new GuardedBackend(backend, plugin.name, plan.name).tried("capabilities", () =>
      commonCapabilities([plugin.capabilities, capabilitiesOf(backend, plugin, plan.name)]),
    );
    const capabilities = plugin.instancesDiffer ? await agreedCapabilities(context, own) : own;
    return {
      pipeline: new Pipeline({ group: plan.name, device, plugin, backend, capabilities, clock: plan.clock, siblings }),
      context,
      gloo,
    };
  } catch (error) {
    await endBackend(backend, plugin.name, plan.name, "the group could not be made");
    throw error;
  }
}

function contextOf(plan: GroupPlan, device: Device, plugin: BackendPlugin): BackendContext {
  return {
    store: new PrefixStore(`${device.type}/`, new PrefixStore(`${plan.name}/`, plan.store)),
    rank: plan.rank,
    size: plan.globalRanks.length,
    globalRanks: plan.globalRanks,
    groupName: plan.name,
    groupDescription: plan.description,
    device,
    timeoutMs: plan.timeoutMs,
    options: plan.options.get(plugin) ?? {},
    logger: prefixedLogger(plan.logger, `${plugin.name}, group "${plan.name}", rank ${plan.rank}: `),
    clock: plan.clock,
  };
}

/** What makes a backend instead of its plugin. */
type BackendSource = (context: BackendContext) => Promise<Backend>;

/**
 * The place of a split, now, among the ops of a group that is bound to a device. Undefined if its backend has no split:
 * then the plugin makes a backend. A group that has failed can no longer be split.
 */
export function placeSplit(parent: ProcessGroup): GroupSplit | undefined {
  const { boundDevice: { type } = {}, state } = parent;
  if (type === undefined || state !== "OPEN" || !parent.deviceTypes.includes(type)) return undefined;
  const backend = parent.backend(type);
  if (typeof backend.placeSplit !== "function") return undefined;
  const place = backend.placeSplit();
  return {
    deviceType: type,
    plugin: parent.plugin(type),
    split: (context, color) => place.split(context, color),
    [Symbol.dispose]: () => place[Symbol.dispose](),
  };
}

function sourceOf({ splitFrom }: GroupPlan, { type }: Device, plugin: BackendPlugin): BackendSource | undefined {
  const { place, color = 0 } = splitFrom ?? {};
  if (place?.deviceType !== type || place.plugin !== plugin) return undefined;
  return (context) => place.split(context, color);
}

/** What a rank that is in none of the groups does while the others are split from their group. */
export async function takePartInSplit(plan: GroupPlan): Promise<void> {
  for (const [type, plugin] of plan.plugins) {
    const device = plan.boundDevice?.type === type ? plan.boundDevice : { type, index: 0 };
    const source = sourceOf(plan, device, plugin);
    if (source === undefined) continue;
    const backend = await backendFor(plugin, contextOf(plan, device, plugin), source);
    await endBackend(backend, plugin.name, plan.name, "this rank is not a member");
  }
}

/** The backend that a plugin creates, or another source. One that is not for this rank is closed. */
async function backendFor(
  plugin: BackendPlugin,
  context: BackendContext,
  source: BackendSource = (of) => plugin.create(of),
): Promise<Backend> {
  const { name } = plugin;
  const { groupName, rank, size } = context;
  const backend = requireBackend(name, groupName, await made(plugin, context, source));
  try {
    new GuardedBackend(backend, name, groupName).requireRankAndSize(rank, size);
  } catch (error) {
    await endBackend(backend, name, groupName, "the group could not be made");
    throw error;
  }
  return backend;
}

/** What `create()` of a plugin resolves to within the time-out of the group. A late result is closed. */
function made(plugin: BackendPlugin, context: BackendContext, source: BackendSource): Promise<unknown> {
  const { name } = plugin;
  const { groupName: group, timeoutMs: limitMs, clock } = context;
  const limit = { limitMs, clock, details: { group, backend: name } };
  return created(
    `backend "${name}"`,
    limit,
    () => source(context),
    (late: unknown) => {
      return endBackend(late as Backend, name, group, "the group was abandoned before its backend was created");
    },
  );
}

/** The capabilities that a backend declares, else those of its plugin. */
function capabilitiesOf(backend: Backend, plugin: BackendPlugin, group: string): Capabilities {
  const own = backend.capabilities ?? plugin.capabilities;
  const fault = capabilitiesFault(own);
  if (fault === undefined) return own;
  throw new DistBackendError(`what create() of backend "${plugin.name}" resolves to${fault}`, {
    backend: plugin.name,
    group,
    code: "INVALID_CAPABILITIES",
  });
}

/** What a middleware gets from its group. Its keys in the store are separate from those of the backend. */
function surroundings(
  name: string,
  { plugin, capabilities }: Pipeline,
  context: BackendContext,
  { logger }: GroupPlan,
): MiddlewareHost {
  const { store, options: _, ...group } = context;
  const own = new PrefixStore(`middleware/${name}/`, store);
  let helpers = 0;
  return {
    ...group,
    backend: plugin.name,
    capabilities,
    store: own,
    logger: prefixedLogger(logger, `${name}, group "${group.groupName}", rank ${group.rank}: `),
    makeHelper: async () => {
      const groupName = `${group.groupName}/${name}/${helpers}`;
      const helper = { ...context, groupName, store: new PrefixStore(`helper/${helpers++}/`, own) };
      return backendFor(plugin, helper);
    },
  };
}

/** The checked options that a group was made with. */
export function optionsOfGroup(group: ProcessGroup): ReadonlyMap<BackendPlugin, object> {
  return optionsOf.get(group) ?? new Map();
}

/** Whether a group was made with the NaN check. */
export function checksForNan(group: ProcessGroup): boolean {
  return nanChecked.has(group);
}

/** Checks methods, since a plugin may be plain JavaScript, and the class that of another copy of this package. */
function requireBackend(name: string, group: string, made: unknown): Backend {
  const methods = ["submit", "abort", "close"] as const;
  const backend = typeof made === "object" && made !== null ? (made as Partial<Backend>) : {};
  const has = (method: (typeof methods)[number]): boolean =>
    callUserFunction(
      `${method} of backend "${name}"`,
      { group, backend: name },
      () => typeof backend[method] === "function",
    );
  if (methods.every(has)) return backend as Backend;
  throw new DistBackendError(
    `create() of backend "${name}" must resolve to an instance of a class that extends Backend, got ${describe(made)}`,
    { backend: name, group },
  );
}
