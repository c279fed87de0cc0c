import "reflect-metadata";

export { OpType, ReduceOp, type ReduceOpName } from "./collectives/index.ts";
export * from "./distributed/index.ts";
export {
  BackendUnavailableError,
  DistBackendError,
  DistError,
  DistNetworkError,
  DistStoreError,
  DistTimeoutError,
  type ErrorDetails,
  InvalidArgumentError,
  QueueEmptyError,
  type Timeout,
  UnsupportedOperationError,
} from "./errors/index.ts";
export {
  type AllGatherOptions,
  type AllReduceOptions,
  type AllToAllListOptions,
  type AllToAllSingleOptions,
  type BarrierOptions,
  type BroadcastOptions,
  type CallOptions,
  type GatherOptions,
  type MonitoredBarrierCallOptions,
  ProcessGroup,
  type RecvOptions,
  type ReduceScatterOptions,
  type ReduceToOptions,
  type ScatterOptions,
  type SendOptions,
} from "./process-group/index.ts";
export {
  type AllToAllOptions,
  type Availability,
  BACKEND_REGISTRY,
  Backend,
  type BackendContext,
  type BackendPlugin,
  BackendRegistry,
  BackendType,
  type Capabilities,
  type ContainerOptions,
  createContainer,
  type MessageOptions,
  type MonitoredBarrierOptions,
  type OpName,
  type OpOptions,
  type ReduceOptions,
  type ReduceToRootOptions,
  type RegisterOptions,
  type RootOptions,
  registerBackend,
} from "./registry/index.ts";
export {
  type RendezvousHandler,
  type RendezvousOptions,
  registerRendezvousHandler,
  rendezvous,
} from "./rendezvous/index.ts";
export * from "./store/index.ts";
export {
  type Device,
  type DeviceType,
  type DType,
  type ForeignTensor,
  Tensor,
  type TensorLike,
  type TensorOptions,
  type TensorView,
  tensor,
} from "./tensor/index.ts";
export { type GroupState, Work, type WorkInfo, type WorkInit } from "./work/index.ts";
