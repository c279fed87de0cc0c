export { Backend, type Submit } from "./backend.ts";
export { checkBackendOptions, checkOptions } from "./backend-options.ts";
export type { BackendOptionsByName, OptionsOf } from "./backend-options-by-name.ts";
export type { Availability, BackendContext, BackendPlugin, LaunchedWorld, LaunchTerms } from "./backend-plugin.ts";
export { BackendRegistry, type RegisterOptions } from "./backend-registry.ts";
export { BackendType, backendTypeOf } from "./backend-type.ts";
export { type Capabilities, CapabilityTable, reduceOpsByKind } from "./capabilities.ts";
export { type CapabilitySummary, dtypesText, type Feature, features, summarize } from "./capability-summary.ts";
export { CLOCK, type Clock, scheduleOn, systemClock } from "./clock.ts";
export { commonCapabilities } from "./common-capabilities.ts";
export {
  BACKEND_PLUGIN,
  BACKEND_REGISTRY,
  type ContainerOptions,
  clockOf,
  createContainer,
  defaultContainer,
  FLIGHT_RECORDER,
  loggerOf,
  middlewareOf,
  recorderOf,
  registerBackend,
  registryOf,
  requireContainer,
} from "./container.ts";
export { type BackendDiscovery, type DiscoveryFault, type DiscoveryPlace, fileSystemDiscovery } from "./discovery.ts";
export { Inbox } from "./inbox.ts";
export { LOGGER, type Logger, type LogLevel, prefixedLogger } from "./logger.ts";
export { MethodBackend } from "./method-backend.ts";
export type { MethodCall, MethodResult, ReducingCall } from "./method-call.ts";
export { BACKEND_MIDDLEWARE, type GroupContext, type Middleware } from "./middleware.ts";
export type { LazyBackend } from "./plugin-source.ts";
export { resolveEverywhere } from "./resolve-everywhere.ts";
export { BACKEND_SDK_VERSION } from "./sdk-version.ts";
export { GRACE_MS, type SettleLimit, settledWithin } from "./settled-within.ts";
export type { OptionsSchema, SchemaIssue, SchemaResult, StandardSchema } from "./standard-schema.ts";
