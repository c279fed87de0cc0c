import { describe, InvalidArgumentError } from "../../errors/index.ts";
import type { TensorFlow, TensorFlowTensor, TensorValues } from "./tfjs-interface.ts";

/** Backends whose tensors can be read only later, or only by waiting for a GPU. */
const asynchronous: ReadonlySet<string> = new Set(["webgl", "webgpu"]);

/** What is used of the backend `wasm`. */
interface WasmBackend {
  typedArrayFromHeap(tensor: TensorFlowTensor): TensorValues;
}

/** @throws InvalidArgumentError unless tensors of the current backend can be read synchronously. */
export function requireReadableBackend(tf: TensorFlow): void {
  if (typeof tf?.variableGrads !== "function" || typeof tf.getBackend !== "function") {
    throw new InvalidArgumentError(`tf must be the namespace of @tensorflow/tfjs, got ${describe(tf)}`, {
      argument: "tf",
    });
  }
  const name = tf.getBackend();
  if (name === undefined || name === "") {
    throw new InvalidArgumentError('TensorFlow.js has no backend yet: await tf.setBackend("cpu") or tf.ready() first', {
      argument: "tf",
    });
  }
  if (!asynchronous.has(name)) return;
  throw new InvalidArgumentError(
    `gradients of TensorFlow.js's backend ${name} cannot be read synchronously: await tf.setBackend("cpu"), or "wasm"`,
    { argument: "tf" },
  );
}

/**
 * The values of a tensor, where they are: memory of backend `cpu` that other tensors may share, or a part of the heap of
 * `wasm`, which moves when it grows. To be read at once, and not to be written.
 */
export function peek(tf: TensorFlow, tensor: TensorFlowTensor): TensorValues {
  const backend = tf.backend() as Partial<WasmBackend>;
  if (tf.getBackend() === "wasm" && typeof backend.typedArrayFromHeap === "function") {
    return backend.typedArrayFromHeap(tensor);
  }
  const values = tensor.dataSync();
  if (values instanceof Float32Array || values instanceof Int32Array || values instanceof Uint8Array) return values;
  return tensor.dtype === "float32" ? Float32Array.from(values) : Int32Array.from(values);
}

/**
 * A tensor with the values of a part of a bucket. Backend `wasm` copies them into its heap. The others may keep the array
 * that they are given: they get a copy, unless the tensor is to be the part of the bucket.
 */
export function tensorOf(
  tf: TensorFlow,
  values: Float32Array,
  { shape, dtype }: TensorFlowTensor,
  isView: boolean,
): TensorFlowTensor {
  const keeps = tf.getBackend() !== "wasm";
  return tf.tensor(keeps && !isView ? values.slice() : values, [...shape], dtype);
}
