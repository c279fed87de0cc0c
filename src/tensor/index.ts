export { bfloat16FromNumber, numberFromBfloat16 } from "./bfloat16.ts";
export type {
  CopyOptions,
  CudaDeviceInfo,
  CudaDeviceLike,
  CudaEvent,
  CudaEventOptions,
  CudaLibrary,
  CudaMemoryStats,
  CudaProbe,
  CudaStream,
  CudaStreamOptions,
  CudaTensor,
  ForeignMemory,
  MakeOptions,
  PinnedTensor,
  StreamOptions,
  StreamPriority,
  WaitOptions,
} from "./cuda/index.ts";
export { cuda } from "./cuda.ts";
export { detachGuard } from "./detach-guard.ts";
export {
  ANY_INDEX,
  CPU,
  type Device,
  type DeviceType,
  deviceOf,
  deviceTypeCodes,
  deviceTypes,
  isDeviceType,
  type Stream,
} from "./device.ts";
export { currentStreamOf, setCurrentStreamOf } from "./device-streams.ts";
export { type DType, type DTypeInfo, type DTypeKind, dtypeNames, dtypes, isDType } from "./dtype.ts";
export { type ArrayOfDType, type EmptyTensor, empty } from "./empty.ts";
export { type Extent, extentOf, haveCommonBytes, overlaps } from "./extent.ts";
export { hashTensors } from "./hash-tensors.ts";
export { bytesOnHost } from "./host-copy.ts";
export {
  bufferOf,
  byteLengthOf,
  bytesOf,
  isDetached,
  isWhole,
  type MemoryKind,
  memoryKindOf,
  memoryOf,
} from "./memory.ts";
export {
  MAX_SPARSE_DIMS,
  SparseTensor,
  type SparseTensorInit,
  type SparseValues,
  sparseDTypes,
  sparseTensor,
  sumOfSparse,
} from "./sparse-tensor.ts";
export { isDetachable, STAGED_ALIGNMENT, STAGED_BYTES, stagedBytes } from "./staging.ts";
export { Tensor, type TensorOptions, type TensorStorage, tensor } from "./tensor.ts";
export { type Hold, holdTensors, holdTensorsIn, releaseHolds, TENSOR_HOLD } from "./tensor-hold.ts";
export {
  dtypeOfArray,
  type ForeignTensor,
  partOfView,
  shapeOfView,
  TENSOR_PROTOCOL,
  type TensorLike,
  type TensorView,
  viewTensor,
} from "./tensor-view.ts";
