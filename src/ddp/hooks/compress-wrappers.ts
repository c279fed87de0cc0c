import { describe, InvalidArgumentError } from "../../errors/index.ts";
import { empty } from "../../tensor/index.ts";
import { type CommHook, computing, isPipelined, needsHost, pipelined } from "../comm-hook.ts";
import { copyElements } from "../elements.ts";
import { type GradBucket, requireBuffer } from "../grad-bucket.ts";
import { storageOf } from "../parameter.ts";
import { realDTypeOf } from "./exchanged-floats.ts";

/**
 * A hook that gives another hook the gradients in float16, and converts its result back:
 * `fp16CompressWrapper(powerSGDHook)`.
 *
 * @throws InvalidArgumentError if `hook` is no function.
 *
 * c10d: `fp16_compress_wrapper`.
 */
export function fp16CompressWrapper<S>(hook: CommHook<S>): CommHook<S> {
  requireHook("fp16CompressWrapper", hook);
  const wrapper: CommHook<S> = function fp16CompressWrapperHook(state, bucket) {
    return compressed("float16", hook, state, bucket);
  };
  return computing(likeIts(hook, wrapper));
}

/** {@link fp16CompressWrapper} for bfloat16. c10d: `bf16_compress_wrapper`. */
export function bf16CompressWrapper<S>(hook: CommHook<S>): CommHook<S> {
  requireHook("bf16CompressWrapper", hook);
  const wrapper: CommHook<S> = function bf16CompressWrapperHook(state, bucket) {
    return compressed("bfloat16", hook, state, bucket);
  };
  return computing(likeIts(hook, wrapper));
}

async function compressed<S>(dtype: "float16" | "bfloat16", hook: CommHook<S>, state: S, bucket: GradBucket) {
  realDTypeOf(`a wrapper of ${dtype}`, bucket);
  const buffer = bucket.dense();
  const values = storageOf(buffer, "buffer");
  const narrow = empty(dtype, bucket.length);
  copyElements(storageOf(narrow, "buffer"), dtype, values, bucket.dtype);
  const inner = bucket.withBuffer(narrow, dtype);
  const result = await hook(state, inner);
  const [first] = Array.isArray(result) ? result : [result];
  requireBuffer(first, inner, `the result of ${hook.name}`);
  copyElements(values, bucket.dtype, storageOf(first, "the result"), dtype);
  return buffer;
}

/** Marks a hook as the one that it calls at once. */
export function likeIts<S>(inner: CommHook<S>, hook: CommHook<S>): CommHook<S> {
  if (needsHost(inner)) computing(hook);
  return isPipelined(inner) ? pipelined(hook) : hook;
}

/** @throws InvalidArgumentError unless it is a function. */
export function requireHook(caller: string, hook: unknown): void {
  if (typeof hook === "function") return;
  throw new InvalidArgumentError(
    `${caller}: hook must be a communication hook such as allReduceHook, got ${describe(hook)}`,
    { argument: "hook" },
  );
}
