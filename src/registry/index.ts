export {
  type AllToAllOptions,
  Backend,
  type MessageOptions,
  type MonitoredBarrierOptions,
  type OpOptions,
  type ReduceOptions,
  type ReduceToRootOptions,
  type RootOptions,
} from "./backend.ts";
export { addBackendMiddleware, type BackendMiddleware, withMiddleware } from "./backend-middleware.ts";
export { checkBackendOptions, checkOptions } from "./backend-options.ts";
export type { BackendOptionsByName, OptionsOf } from "./backend-options-by-name.ts";
export type { Availability, BackendContext, BackendPlugin, LaunchedWorld, LaunchTerms } from "./backend-plugin.ts";
export { BackendRegistry, type LazyBackend, type RegisterOptions } from "./backend-registry.ts";
export { BackendType, backendTypeOf } from "./backend-type.ts";
export { type Capabilities, CapabilityTable, type OpName, operations, reduceOpsByKind } from "./capabilities.ts";
export { type CapabilitySummary, dtypesText, type Feature, features, summarize } from "./capability-summary.ts";
export {
  BACKEND_REGISTRY,
  type ContainerOptions,
  createContainer,
  defaultContainer,
  loggerOf,
  registerBackend,
  registryOf,
} from "./container.ts";
export { type BackendDiscovery, type DiscoveryFault, type DiscoveryPlace, fileSystemDiscovery } from "./discovery.ts";
export { LOGGER, type Logger, type LogLevel, prefixedLogger } from "./logger.ts";
export { BACKEND_SDK_VERSION } from "./sdk-version.ts";
export type { OptionsSchema, SchemaIssue, SchemaResult, StandardSchema } from "./standard-schema.ts";
