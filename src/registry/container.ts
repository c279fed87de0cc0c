import "reflect-metadata";
import {
  type DependencyContainer,
  type InjectionToken,
  instanceCachingFactory,
  container as rootContainer,
} from "tsyringe";
import { describe, InvalidArgumentError } from "../errors/index.ts";
import type { BackendPlugin } from "./backend-plugin.ts";
import { BackendRegistry, type RegisterOptions } from "./backend-registry.ts";
import { builtInBackends } from "./built-in-backends.ts";
import { fileSystemDiscovery } from "./discovery.ts";
import { LOGGER, type Logger, logLevelFromEnvironment, stderrLogger } from "./logger.ts";

/** Token of the {@link BackendRegistry} in a container. */
export const BACKEND_REGISTRY: InjectionToken<BackendRegistry> = Symbol.for("bun-c10d.BackendRegistry");

/** What {@link createContainer} takes. */
export interface ContainerOptions {
  /** Backends that take the place of those of the same name, e.g. a fake one in unit tests. */
  readonly overrides?: readonly BackendPlugin[];
  /** Whether the new container becomes the one that `initProcessGroup()` and `registerBackend()` use. */
  readonly install?: boolean;
}

let installed: DependencyContainer | undefined;

/**
 * Makes a tsyringe container with a {@link BackendRegistry} of its own: the built-in backends, the overrides, and what can
 * be discovered (docs/backends.md). Its {@link LOGGER} writes to stderr; register another under the same token. Anything
 * else can be registered in it too.
 */
export function createContainer(options: ContainerOptions = {}): DependencyContainer {
  const { overrides = [] } = options;
  if (!Array.isArray(overrides)) {
    throw new InvalidArgumentError(`createContainer: overrides must be a list of plugins, got ${describe(overrides)}`, {
      argument: "overrides",
    });
  }
  const made = rootContainer.createChildContainer();
  const registry = new BackendRegistry(builtInBackends, fileSystemDiscovery());
  for (const plugin of overrides) registry.register(plugin, { replace: true });
  made.register(BACKEND_REGISTRY, { useValue: registry });
  made.register(LOGGER, { useFactory: instanceCachingFactory(() => stderrLogger(logLevelFromEnvironment())) });
  if (options.install) installed = made;
  return made;
}

/** The container that is used where none is given. */
export function defaultContainer(): DependencyContainer {
  installed ??= createContainer();
  return installed;
}

/** The registry of a container, the default one if none is given. */
export function registryOf(container: DependencyContainer = defaultContainer()): BackendRegistry {
  return container.resolve(BACKEND_REGISTRY);
}

/** The logger of a container, the default one if none is given. */
export function loggerOf(container: DependencyContainer = defaultContainer()): Logger {
  return container.resolve(LOGGER);
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
