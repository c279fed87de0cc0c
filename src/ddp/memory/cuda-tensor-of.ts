import { type CudaTensor, cuda, type TensorLike, viewTensor } from "../../tensor/index.ts";

/** A tensor on a CUDA device as one that can be copied to and taken apart, in the same memory. */
export function cudaTensorOf(tensor: TensorLike): CudaTensor {
  if (tensor instanceof cuda.CudaTensor) return tensor;
  const { ptr, byteLength, dtype, device } = viewTensor(tensor);
  return cuda.foreign({ ptr, byteLength, dtype, device, owner: tensor });
}
