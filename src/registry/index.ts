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
export type { Availability, BackendContext, BackendPlugin } from "./backend-plugin.ts";
export { BackendRegistry, type LazyBackend, type RegisterOptions } from "./backend-registry.ts";
export { BackendType, backendTypeOf } from "./backend-type.ts";
export { type Capabilities, CapabilityTable, type OpName, reduceOpsByKind } from "./capabilities.ts";
export {
  BACKEND_REGISTRY,
  type ContainerOptions,
  createContainer,
  defaultContainer,
  registerBackend,
  registryOf,
} from "./container.ts";
