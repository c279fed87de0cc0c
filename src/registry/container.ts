import "reflect-metadata";
import {
  type DependencyContainer,
  type InjectionToken,
  instanceCachingFactory,
  instancePerContainerCachingFactory,
  container as rootContainer,
} from "tsyringe";
import { type OptionNames, requireOptionNames } from "../collectives/option-names.ts";
import { environmentInteger } from "../environment/index.ts";
import { describe, InvalidArgumentError, messageOf } from "../errors/index.ts";
import { FlightRecorder } from "../recorder/index.ts";
import { BackendRegistry, type RegisterOptions } from "./backend-registry.ts";
import { builtInBackends } from "./built-in-backends.ts";
import type { BackendPlugin } from "./contracts/backend-plugin.ts";
import { BACKEND_MIDDLEWARE, type Middleware } from "./contracts/middleware.ts";
import { fileSystemDiscovery } from "./discovery.ts";
import type { LazyBackend } from "./plugin-source.ts";
import { resolveEverywhere } from "./resolve-everywhere.ts";
import { CLOCK, type Clock, requireClock, systemClock } from "./services/clock.ts";
import { LOGGER, type Logger, logLevels, stderrLogger } from "./services/logger.ts";

/** Token of the {@link BackendRegistry} of a container. */
export const BACKEND_REGISTRY: InjectionToken<BackendRegistry> = Symbol.for("bun-c10d.BackendRegistry");

/**
 * Token of plugins, or of `{ name, load }` for one that is loaded on first use. Each one that is registered in a
 * container or its parents is a backend there. Of several with the same name, a child's takes precedence over its
 * parent's, the last registered over earlier ones, and any over a built-in one.
 *
 * ```ts
 * container.register(BACKEND_PLUGIN, { useValue: plugin });
 * ```
 */
export const BACKEND_PLUGIN: InjectionToken<BackendPlugin | LazyBackend> = Symbol.for("bun-c10d.BackendPlugin");

/**
 * Token of the {@link FlightRecorder} of a container: it records the ops of the groups of the container. Each container
 * of {@link createContainer} has its own; any other gets one with its first group. Child containers share it unless
 * another one is registered in them.
 *
 * ```ts
 * container.register(FLIGHT_RECORDER, { useValue: new FlightRecorder({ capacity: 100 }) });
 * ```
 */
export const FLIGHT_RECORDER: InjectionToken<FlightRecorder> = Symbol.for("bun-c10d.FlightRecorder");

/** Options of {@link createContainer}. */
export interface ContainerOptions {
  /** Backends that replace those of the same name, e.g. a fake one in unit tests. */
  readonly overrides?: readonly BackendPlugin[];
  /** Whether the new container becomes the one that `initProcessGroup()` and `registerBackend()` use. */
  readonly install?: boolean;
}

const optionNames: OptionNames<ContainerOptions> = { overrides: true, install: true };

let installed: DependencyContainer | undefined;

/**
 * Creates a tsyringe container for groups: `initProcessGroup({ container })`. It has the built-in backends, the
 * overrides, and those that can be discovered (docs/backends.md); its {@link LOGGER} writes to stderr. What is
 * registered in it or in its child containers is visible only there: plugins ({@link BACKEND_PLUGIN}), middleware,
 * rendezvous handlers, a logger, a clock ({@link CLOCK}), and anything else. See docs/containers.md.
 */
export function createContainer(options: ContainerOptions = {}): DependencyContainer {
  requireOptionNames("createContainer", options, optionNames);
  const { overrides = [] } = options;
  if (!Array.isArray(overrides)) {
    throw new InvalidArgumentError(`createContainer: overrides must be a list of plugins, got ${describe(overrides)}`, {
      argument: "overrides",
    });
  }
  const made = rootContainer.createChildContainer();
  // One for each child container, which sees what is registered there.
  made.register(BACKEND_REGISTRY, { useFactory: instancePerContainerCachingFactory(makeRegistry) });
  made.register(LOGGER, { useFactory: instancePerContainerCachingFactory(makeLogger) });
  // One for all child containers: their ops are looked up here.
  made.register(FLIGHT_RECORDER, { useFactory: instanceCachingFactory(makeRecorder) });
  const registry = registryOf(made);
  for (const plugin of overrides) registry.register(plugin, { replace: true });
  made.registerSingleton(Installation);
  made.resolve(Installation).of = made;
  if (options.install) installed = made;
  return made;
}

/** Disposed with its container, which then is no longer the default one. */
class Installation {
  of: DependencyContainer | undefined;

  dispose(): void {
    if (installed === this.of) installed = undefined;
  }
}

function makeRegistry(container: DependencyContainer): BackendRegistry {
  return new BackendRegistry(builtInBackends, fileSystemDiscovery(), {
    list: () => pluginsOf(container),
    add: (plugin) => void container.register(BACKEND_PLUGIN, { useValue: plugin }),
  });
}

function makeLogger(): Logger {
  return stderrLogger(logLevels());
}

function makeRecorder(): FlightRecorder {
  const names = ["C10D_TRACE_BUFFER_SIZE", "TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_TRACE_BUFFER_SIZE"] as const;
  const capacity = names.map((name) => environmentInteger(name)).find((size) => size !== undefined);
  return new FlightRecorder(capacity === undefined ? {} : { capacity });
}

/** The container that is used where none is given. */
export function defaultContainer(): DependencyContainer {
  installed ??= createContainer();
  return installed;
}

/** Registries of containers that {@link createContainer} did not make. */
const registries = new WeakMap<DependencyContainer, BackendRegistry>();

/** The registry of a container, the default one if none is given. */
export function registryOf(container: DependencyContainer = defaultContainer()): BackendRegistry {
  if (container.isRegistered(BACKEND_REGISTRY, true)) return container.resolve(BACKEND_REGISTRY);
  const registry = registries.get(container) ?? makeRegistry(container);
  registries.set(container, registry);
  return registry;
}

/** The logger of a container, the default one if none is given. */
export function loggerOf(container: DependencyContainer = defaultContainer()): Logger {
  return container.isRegistered(LOGGER, true) ? container.resolve(LOGGER) : makeLogger();
}

/**
 * The clock of a container, the default one if none is given.
 * @throws InvalidArgumentError when what is registered is not a clock.
 */
export function clockOf(container: DependencyContainer = defaultContainer()): Clock {
  return container.isRegistered(CLOCK, true) ? requireClock(container.resolve(CLOCK)) : systemClock;
}

/**
 * The recorder of a container. A container that {@link createContainer} did not make gets its own here, to be resolved
 * by its user.
 * @throws InvalidArgumentError when what is registered is not a recorder, or is a new one each time, whose entries
 *   could not be read.
 */
export function recorderOf(container: DependencyContainer): FlightRecorder {
  if (!container.isRegistered(FLIGHT_RECORDER, true)) {
    container.register(FLIGHT_RECORDER, { useValue: makeRecorder() });
  }
  const recorder: unknown = container.resolve(FLIGHT_RECORDER);
  const isRecorder = recorder instanceof FlightRecorder;
  if (isRecorder && container.resolve(FLIGHT_RECORDER) === recorder) return recorder;
  const text = isRecorder
    ? "what is registered makes a recorder each time it is resolved; register one as a value (useValue) or as a singleton"
    : `a recorder is a FlightRecorder, got ${describe(recorder)}`;
  throw new InvalidArgumentError(`FLIGHT_RECORDER: ${text}`, { argument: "FLIGHT_RECORDER" });
}

/** @throws InvalidArgumentError when what is registered has no name, by which it could be found. */
function pluginsOf(container: DependencyContainer): readonly (BackendPlugin | LazyBackend)[] {
  const plugins = resolveEverywhere(container, BACKEND_PLUGIN);
  for (const each of plugins) {
    if (typeof each?.name === "string") continue;
    const text = `BACKEND_PLUGIN: a backend is a plugin or { name, load }, got ${describe(each)}`;
    throw new InvalidArgumentError(text, { argument: "BACKEND_PLUGIN" });
  }
  return plugins;
}

/**
 * The middleware of a container and its parents, outermost first.
 * @throws InvalidArgumentError when what is registered is not a middleware.
 */
export function middlewareOf(container: DependencyContainer): Middleware[] {
  const middleware = resolveEverywhere(container, BACKEND_MIDDLEWARE);
  for (const each of middleware) {
    let fault: string | undefined;
    let cause: unknown;
    try {
      fault = middlewareFault(each);
    } catch (error) {
      fault = `reading name and create() of a middleware has thrown ${messageOf(error)}`;
      cause = error;
    }
    if (fault === undefined) continue;
    throw new InvalidArgumentError(`BACKEND_MIDDLEWARE: ${fault}`, {
      argument: "BACKEND_MIDDLEWARE",
      ...(cause !== undefined && { cause }),
    });
  }
  return middleware;
}

/** What is wrong with something that should be a middleware; `undefined` when nothing is. */
function middlewareFault(each: Middleware | null | undefined): string | undefined {
  const isNamed = typeof each?.name === "string" && each.name !== "";
  if (!isNamed) return `a middleware is an object with a name and create(), got ${describe(each)}`;
  if (typeof each.create === "function") return undefined;
  return `middleware "${each.name}" must have a function create(), got ${describe(each.create)}`;
}

/** @throws InvalidArgumentError for anything that is not a tsyringe container. */
export function requireContainer(caller: string, container: unknown): asserts container is DependencyContainer {
  const { isRegistered, resolveAll } = (container ?? {}) as Partial<DependencyContainer>;
  if (typeof isRegistered === "function" && typeof resolveAll === "function") return;
  throw new InvalidArgumentError(
    `${caller}: container must be one that createContainer() or tsyringe made, got ${describe(container)}`,
    { argument: "container" },
  );
}

/**
 * Registers a backend in the default container.
 * @throws InvalidArgumentError when the name is taken and `replace` is not set.
 *
 * c10d: `Backend.register_backend`.
 */
export function registerBackend(plugin: BackendPlugin, options: RegisterOptions = {}): void {
  registryOf().register(plugin, options);
}
