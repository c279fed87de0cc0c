import { isOneTensor, type OpCall, opTable, opTypeOf } from "../collectives/index.ts";
import { DistBackendError } from "../errors/index.ts";
import type { GroupContext, Middleware } from "../registry/index.ts";
import { Work } from "../work/index.ts";
import { indexOfNaN } from "./nan-search.ts";

/**
 * Looks for NaN in what a rank contributes to an op, before the op begins: the tensors that it sends or that are reduced; of
 * a broadcast or a scatter those of the root. If there is one, the op rejects with a `DistBackendError` (`NAN_FOUND`) that
 * tells where it is. Nothing is sent then, and the group fails, so that other ranks do not wait.
 *
 * All of these tensors are read if they are of float16, bfloat16, float32, float64, an 8-bit float, complex64 or complex128; other dtypes
 * have no NaN. Not looked at are what is received, and foreign memory (behind an address, such as that of a GPU).
 *
 * ```ts
 * container.register(BACKEND_MIDDLEWARE, { useValue: nanCheck });
 * ```
 *
 * c10d: `TORCH_NCCL_NAN_CHECK`.
 */
export const nanCheck: Middleware = {
  name: "nan-check",
  create: (context) => (next) => (calls) => {
    for (const call of calls) {
      const error = nanIn(call, context);
      if (error === undefined) continue;
      context.fail(error);
      return calls.map((each) => Work.rejected(error, { opType: opTypeOf(each) }));
    }
    return next(calls);
  },
};

/** What is wrong with the tensors that this rank contributes. */
function nanIn(call: OpCall, context: GroupContext): DistBackendError | undefined {
  const { inPlace, root, api } = opTable[call.op];
  // Of a broadcast, what the others have in their tensors is nobody's concern.
  if (inPlace && root === "src" && call.root !== context.rank) return undefined;
  const tensors = inPlace ? call.outputs : call.inputs;
  for (const [i, { data, dtype, length }] of tensors.entries()) {
    const at = data === undefined ? -1 : indexOfNaN(data, dtype);
    if (at < 0) continue;
    const { groupName: group, backend, rank, size } = context;
    const argument = argumentOf(call, i);
    return new DistBackendError(
      `${api} on group "${group}" (${backend}, rank ${rank} of ${size}): ${argument} has a NaN at element ${at} of ${length} (${dtype}); nothing was sent, and the group has failed`,
      { backend, group, rank, op: api, argument, code: "NAN_FOUND" },
    );
  }
  return undefined;
}

/** What the caller knows a contributed tensor by. */
function argumentOf({ op }: OpCall, i: number): string {
  if (op === "allReduceSparse") return "values";
  const { inPlace, inputs, outputs } = opTable[op];
  const name = inPlace || op === "send" ? "tensor" : "input";
  const side = inPlace ? outputs : inputs;
  return isOneTensor(side) ? name : `${name}s[${i}]`;
}
