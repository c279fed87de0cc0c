import type { TensorView } from "../tensor/index.ts";

/** What an op wrote into a copy, and where it belongs. */
export interface StagedOutput {
  readonly to: TensorView;
  readonly from: Uint8Array;
}

/**
 * The tensors of one op as native code may see them. A resizable `ArrayBuffer` gives its pages back when it shrinks, which
 * would end the process while a native thread is in them, so what lies in one is handed over as a copy.
 */
export class StagedTensors {
  readonly inputs: readonly TensorView[];
  readonly outputs: readonly TensorView[];
  /** To be copied back when the op has ended well. */
  readonly copies: readonly StagedOutput[] | undefined;
  /** All that has to stay as it is while the op is under way. */
  readonly kept: readonly TensorView[];

  constructor(inputs: readonly TensorView[], outputs: readonly TensorView[]) {
    this.inputs = inputs;
    this.outputs = outputs;
    this.kept = [...inputs, ...outputs];
    if (!this.kept.some(isResizable)) return;
    const copies: StagedOutput[] = [];
    this.inputs = inputs.map((view) => (isResizable(view) ? copyOf(view) : view));
    this.outputs = outputs.map((view) => {
      if (!isResizable(view)) return view;
      const copy = copyOf(view);
      copies.push({ to: view, from: copy.data });
      return copy;
    });
    this.copies = copies;
    this.kept = [...this.kept, ...this.inputs, ...this.outputs];
  }
}

/** Whether the memory of a tensor can go away by `resize()`. Shared memory only grows. */
export function isResizable({ data }: TensorView): boolean {
  return data !== undefined && data.buffer instanceof ArrayBuffer && data.buffer.resizable;
}

function copyOf(view: TensorView): TensorView & { readonly data: Uint8Array } {
  const data = new Uint8Array(new ArrayBuffer(view.byteLength));
  if (view.data !== undefined) data.set(new Uint8Array(view.data.buffer, view.data.byteOffset, view.byteLength));
  return { ...view, data };
}
