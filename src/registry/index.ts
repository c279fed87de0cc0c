export { checkBackendOptions, checkOptions } from "./backend-options.ts";
export type { BackendOptionsByName, OptionsOf } from "./backend-options-by-name.ts";
export { BackendRegistry, type RegisterOptions } from "./backend-registry.ts";
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
export { Backend, type SplitPlace, type Submit } from "./contracts/backend.ts";
export type {
  Availability,
  BackendContext,
  BackendPlugin,
  LaunchedWorld,
  LaunchTerms,
} from "./contracts/backend-plugin.ts";
export { BackendType, backendTypeOf } from "./contracts/backend-type.ts";
export { type Capabilities, CapabilityTable, reduceOpsByKind } from "./contracts/capabilities.ts";
export {
  type CapabilitySummary,
  dtypesText,
  type Feature,
  features,
  summarize,
} from "./contracts/capability-summary.ts";
export { commonCapabilities } from "./contracts/common-capabilities.ts";
export type { MemoryServices } from "./contracts/memory-services.ts";
export { BACKEND_MIDDLEWARE, type GroupContext, type Middleware } from "./contracts/middleware.ts";
export { BACKEND_SDK_VERSION } from "./contracts/sdk-version.ts";
export type { OptionsSchema, SchemaIssue, SchemaResult, StandardSchema } from "./contracts/standard-schema.ts";
export { type BackendDiscovery, type DiscoveryFault, type DiscoveryPlace, fileSystemDiscovery } from "./discovery.ts";
export { setGroupName } from "./methods/group-names.ts";
export { Inbox } from "./methods/inbox.ts";
export { MethodBackend } from "./methods/method-backend.ts";
export type { MethodCall, MethodResult, ReducingCall } from "./methods/method-call.ts";
export type { LazyBackend } from "./plugin-source.ts";
export { resolveEverywhere } from "./resolve-everywhere.ts";
export { abortHelper } from "./services/abort-helper.ts";
export { CLOCK, type Clock, scheduleOn, systemClock } from "./services/clock.ts";
export { groupRank, setGlobalRank } from "./services/global-rank.ts";
export { LOGGER, type Logger, type LogLevel, prefixedLogger } from "./services/logger.ts";
export { GRACE_MS, type SettleLimit, settledWithin } from "./services/settled-within.ts";
