import * as dist from "../../src/index.ts";
import type { DType, TensorLike } from "../../src/tensor/index.ts";

/** Where tensors are. */
export interface TensorPlace {
  make(values: readonly number[], dtype: DType): TensorLike;
  /** The elements, when all ops on the tensor have ended. */
  read(tensor: TensorLike): Promise<readonly number[]>;
}

/** Elements of a tensor in host memory. Those of 64-bit integers are small here. */
function numbers(tensor: dist.Tensor): readonly number[] {
  const { data } = tensor;
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) return Array.from(data, Number);
  return tensor.toNumbers();
}

/** Host memory, for backends such as Gloo. */
export const host: TensorPlace = {
  make: (values, dtype) => dist.tensor(values, { dtype }),
  read: async (tensor) => {
    if (!(tensor instanceof dist.Tensor)) throw new TypeError("this place makes each tensor by tensor()");
    return numbers(tensor);
  },
};

/** The memory of a CUDA device. */
function onCuda(device: string): TensorPlace {
  dist.cuda.setDevice(device);
  return {
    make: (values, dtype) => dist.cuda.from(dist.tensor(values, { dtype })),
    read: async (tensor) => {
      const copy = await dist.cuda.toHost(tensor);
      if (copy instanceof dist.Tensor) return numbers(copy);
      return Array.from(copy, Number);
    },
  };
}

/** The place of a device, such as `cuda:1` or `cpu`. */
export const placeOf = (device: string): TensorPlace => (device === "cpu" ? host : onCuda(device));
