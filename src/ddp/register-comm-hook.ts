import { describe, InvalidArgumentError } from "../errors/index.ts";
import { BuiltinCommHookType, type CommHook, type CommHookOptions } from "./comm-hook.ts";
import { allReduceHook, fp16CompressHook } from "./hooks/default-hooks.ts";
import type { Reducer } from "./reducer.ts";

/**
 * Lets a hook exchange the gradients of each bucket in place of the all-reduce; on all ranks the same one, before the
 * first backward pass or between two of them.
 *
 * @param state Given to the hook at each call.
 * @throws InvalidArgumentError if there is a hook already.
 *
 * ```ts
 * registerCommHook(ddp.reducer, undefined, async (_, bucket) => {
 *   await bucket.group.allReduce(bucket.dense(), { op: dist.ReduceOp.AVG });
 *   return bucket.buffer();
 * });
 * ```
 *
 * c10d: `_register_comm_hook`.
 */
export function registerCommHook<S>(reducer: Reducer, state: S, hook: CommHook<S>, options?: CommHookOptions): void {
  reducer.setHook(state, hook, options);
}

/**
 * {@link registerCommHook} for a hook of the library.
 *
 * c10d: `_register_builtin_comm_hook`.
 */
export function registerBuiltinCommHook(reducer: Reducer, type: BuiltinCommHookType): void {
  if (type === BuiltinCommHookType.ALLREDUCE) reducer.setHook(undefined, allReduceHook, { name: "ALLREDUCE" });
  else if (type === BuiltinCommHookType.FP16_COMPRESS) {
    reducer.setHook(undefined, fp16CompressHook, { name: "FP16_COMPRESS" });
  } else {
    throw new InvalidArgumentError(
      `unknown builtin hook ${describe(type)}: use BuiltinCommHookType.ALLREDUCE or FP16_COMPRESS`,
      { argument: "type" },
    );
  }
}
