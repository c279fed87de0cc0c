import { isOneTensor, type OpCall, type OpRow, opTable, opTypeOf } from "../collectives/index.ts";
import { DistBackendError } from "../errors/index.ts";
import type { GroupContext, Middleware } from "../registry/index.ts";
import { bytesOnHost, cuda, type Stream, type TensorStorage, type TensorView } from "../tensor/index.ts";
import { Work } from "../work/index.ts";
import { hasNaN, indexOfNaN } from "./nan-search.ts";

/**
 * Looks for NaN in what a rank contributes to an op, before the op begins: the tensors that it sends or that are
 * reduced; for a broadcast or a scatter, those of the root. If there is one, the op rejects with a `DistBackendError`
 * (`NAN_FOUND`) that says where. Nothing is sent then, and the group fails, so that other ranks do not wait.
 *
 * Tensors of float16, bfloat16, float32, float64, 8-bit floats, complex64 and complex128 are read in full; other dtypes
 * have no NaN. Tensors of a CUDA device are copied to the host for that, after what is in the stream of the op: this thread
 * waits for it. Received tensors and foreign host memory are not checked.
 *
 * The option `checkForNan` of `initProcessGroup()` and `newGroup()`, and TORCH_DIST_NAN_CHECK and TORCH_NCCL_NAN_CHECK,
 * do this for one group or all; registered in a container it applies to the groups of that:
 *
 * ```ts
 * container.register(BACKEND_MIDDLEWARE, { useValue: nanCheck });
 * ```
 *
 * c10d: `TORCH_NCCL_NAN_CHECK`, and `NanCheckHook` of 2.14.
 */
export const nanCheck: Middleware = {
  name: "nan-check",
  create: (context) => (next) => {
    const numbers = { collective: 0, message: 0, turn: 0 };
    return (calls) => {
      const before = { ...numbers };
      for (const call of calls) {
        const error = nanIn(call, numberOf(call, numbers), context);
        if (error === undefined) continue;
        context.fail(error);
        return calls.map((each) => {
          return Work.rejected(error, { opType: opTypeOf(each), seq: numberOf(each, before) });
        });
      }
      return next(calls);
    };
  },
};

/** The number of the next call, as backends count collectives and messages. */
function numberOf({ op, continuation }: OpCall, numbers: Record<OpRow["kind"], number>): number {
  const { kind } = opTable[op];
  if (!continuation) numbers[kind]++;
  return numbers[kind];
}

/** The error if a tensor that this rank contributes has a NaN. */
function nanIn(call: OpCall, seq: number, context: GroupContext): DistBackendError | undefined {
  const { inPlace, root, api } = opTable[call.op];
  // In a broadcast, the contents of the other ranks' tensors do not matter.
  if (inPlace && root === "src" && call.root !== context.rank) return undefined;
  const tensors = inPlace ? call.outputs : call.inputs;
  for (const [i, view] of tensors.entries()) {
    const { dtype, length } = view;
    const data = elementsOf(view, call.stream);
    const at = data === undefined ? -1 : indexOfNaN(data, dtype);
    if (at < 0) continue;
    const { groupName: group, backend, rank, size } = context;
    const argument = argumentOf(call, i);
    return new DistBackendError(
      `${api} #${seq} on group "${group}" (${backend}, rank ${rank} of ${size}): ${argument} has a NaN at element ${at} of ${length} (${dtype}); nothing was sent, and the group has failed`,
      { backend, group, rank, op: api, seq, argument, tensor: i, element: at, code: "NAN_FOUND" },
    );
  }
  return undefined;
}

/** The elements of a tensor, copied from its device after what is in the stream of the op; undefined if unreadable. */
function elementsOf(view: TensorView, stream: Stream | undefined): TensorStorage | undefined {
  const { data, device, dtype } = view;
  if (data !== undefined || device.type === "cpu" || !hasNaN(dtype)) return data;
  if (!cuda.isAvailable()) return undefined;
  try {
    return bytesOnHost(view, stream);
  } catch {
    // The backend says what is wrong with it.
    return undefined;
  }
}

/** Name of a contributed tensor in the API. */
function argumentOf({ op }: OpCall, i: number): string {
  if (op === "allReduceSparse") return "values";
  const { inPlace, inputs, outputs } = opTable[op];
  const name = inPlace || op === "send" ? "tensor" : "input";
  const side = inPlace ? outputs : inputs;
  return isOneTensor(side) ? name : `${name}s[${i}]`;
}
