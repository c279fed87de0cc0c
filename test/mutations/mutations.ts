import { type OpName, ReduceOp, type TensorView, tensor, Work } from "bun-c10d";
import { changing, Mutant, type Mutation, replacing } from "./mutant.ts";

/** The same memory, starting at another element. */
function part(view: TensorView, from: number, to: number): TensorView {
  const { data, dtype } = view;
  if (data === undefined) return view;
  const size = view.length === 0 ? 0 : view.byteLength / view.length;
  const bytes = new Uint8Array(data.buffer, data.byteOffset + from * size, (to - from) * size);
  return { ...view, data: tensor(bytes, { dtype }).data, length: to - from, byteLength: (to - from) * size };
}

/** A copy of a tensor with its last element moved to the front. */
function rotated(view: TensorView): TensorView {
  const { data, dtype } = view;
  if (data === undefined || view.length < 2) return view;
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const size = view.byteLength / view.length;
  const moved = Buffer.concat([bytes.subarray(-size), bytes.subarray(0, -size)]);
  return { ...view, data: tensor(Uint8Array.from(moved).buffer, { dtype }).data };
}

/** Makes the backend reduce with other ops. */
function reducing(op: OpName, instead: readonly (readonly [ReduceOp, ReduceOp])[]): Mutation {
  return changing([op], ({ reduceOp }) => ({ reduceOp: instead.find(([from]) => from === reduceOp)?.[1] ?? reduceOp }));
}

const done = (work: Work<void>): Work<void> => Work.completed(undefined, work);

/** Deliberate bugs. The conformance suite must find each. */
export const mutations: Readonly<Record<string, Mutation>> = {
  "AVG is not divided": reducing("allReduce", [[ReduceOp.AVG, ReduceOp.SUM]]),
  "MIN and MAX are swapped": reducing("reduceScatterTensor", [
    [ReduceOp.MIN, ReduceOp.MAX],
    [ReduceOp.MAX, ReduceOp.MIN],
  ]),
  "BAND is done as BOR": reducing("reduce", [[ReduceOp.BAND, ReduceOp.BOR]]),
  "broadcast takes the wrong root": changing(["broadcast"], ({ root }, size) => ({ root: (root + 1) % size })),
  "splits are off by one": changing(["allToAllSingle"], ({ inputs }) => ({ inputs: inputs.map(rotated) })),
  "the last element is left out": changing(["allReduce"], ({ outputs }) => ({
    outputs: outputs.map((view) => (view.length > 300 ? part(view, 0, view.length - 1) : view)),
  })),
  "the element after the tensor is written": changing(["broadcast"], ({ outputs }) => ({
    outputs: outputs.map((view) => (view.length > 0 ? part(view, 0, view.length + 1) : view)),
  })),
  "only the first tensor of a list is reduced": changing(["allReduceCoalesced"], ({ outputs }) => ({
    outputs: outputs.slice(0, 1),
  })),
  "what is gathered is in the wrong order": changing(["gather"], ({ outputs }) => ({ outputs: outputs.toReversed() })),
  "scatter gives each rank the part of the next": changing(["scatter"], ({ inputs }) => ({
    inputs: [...inputs.slice(1), ...inputs.slice(0, 1)],
  })),
  "tags are ignored": changing(["send", "recv"], () => ({ tag: 0 })),
  "the time-out of the call is not passed on": changing(["barrier"], () => ({ timeoutMs: Number.POSITIVE_INFINITY })),
  "an op ends before its data is there": replacing("allReduce", done),
  "the Works of a batch are in the wrong order": (inner) =>
    new Mutant(inner, (calls) => inner.submit(calls).toReversed()),
  "a root is taken for a global rank": (inner, context) =>
    changing(["broadcast"], ({ root }) => ({ root: context.globalRanks[root] ?? root }))(inner, context),
  "a barrier does not wait": replacing("barrier", done),
  "an error is lost": replacing("barrier", (work) =>
    Work.fromPromise(
      work.catch(() => undefined),
      work,
    ),
  ),
  "a recv does not report the source of its message": replacing("recv", (work) => Work.fromPromise(work, work)),
  "an aborted group goes on waiting": (inner) =>
    new (class extends Mutant {
      override abort(): void {}
    })(inner),
};
