import { opTable, ReduceOp, type ReduceOpName } from "../../../collectives/index.ts";
import { CPU, type DType, type TensorView } from "../../../tensor/index.ts";
import { copyOf } from "../element-bytes.ts";
import type { NumberedCall } from "../numbered-call.ts";

/** A tensor on its way to another thread; without bytes if only its size is needed there. */
export interface CarriedTensor {
  readonly dtype: DType;
  readonly length: number;
  readonly byteLength: number;
  readonly bytes: Uint8Array<ArrayBuffer> | undefined;
}

/** A collective on its way to another thread. */
export interface CarriedCall extends Omit<NumberedCall, "inputs" | "outputs" | "reduceOp"> {
  readonly inputs: readonly CarriedTensor[];
  readonly outputs: readonly CarriedTensor[];
  readonly reduceOp: { readonly name: ReduceOpName; readonly factor: number } | undefined;
}

export function carryTensor(view: TensorView, withBytes: boolean): CarriedTensor {
  const { dtype, length, byteLength } = view;
  return { dtype, length, byteLength, bytes: withBytes ? copyOf(view) : undefined };
}

/** A view of a tensor received from another thread. */
export function receiveTensor({ dtype, length, byteLength, bytes = new Uint8Array(0) }: CarriedTensor): TensorView {
  return { source: bytes, data: bytes, ptr: 0, dtype, length, byteLength, device: CPU };
}

export function carryCall({ inputs, outputs, reduceOp, ...call }: NumberedCall): CarriedCall {
  return {
    ...call,
    inputs: inputs.map((view) => carryTensor(view, true)),
    outputs: outputs.map((view) => carryTensor(view, opTable[call.op].inPlace === true)),
    reduceOp: reduceOp && { name: reduceOp.name, factor: reduceOp.factor },
  };
}

export function receiveCall({ inputs, outputs, reduceOp, ...call }: CarriedCall): NumberedCall {
  return {
    ...call,
    inputs: inputs.map(receiveTensor),
    outputs: outputs.map(receiveTensor),
    reduceOp: reduceOp && receiveReduceOp(reduceOp),
  };
}

function receiveReduceOp({ name, factor }: { readonly name: ReduceOpName; readonly factor: number }): ReduceOp {
  return name === "PREMUL_SUM" ? ReduceOp.premulSum(factor) : ReduceOp[name];
}
