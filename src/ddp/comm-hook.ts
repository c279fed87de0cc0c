import type { GradBucket } from "./grad-bucket.ts";
import type { Gradient } from "./parameter.ts";

/**
 * Exchanges the gradients of a bucket in place of the all-reduce. It gets what this rank has computed, not divided by
 * the number of ranks, and resolves to what the parameters' gradients become: usually `bucket.buffer()`, or another
 * tensor of its length and dtype. A list counts as its first tensor.
 *
 * Hooks are called in the order of the buckets, on all ranks. One may issue any number of collectives: the hook of the
 * next bucket is called when the promise of this one has resolved. A hook that issues collectives only before its
 * first `await` can be registered with `pipelined: true`, so that several buckets are in flight at a time.
 *
 * A hook that throws, rejects or resolves to something else fails the backward pass; so does one that takes longer than
 * the time-out of the group while no op is in flight.
 *
 * c10d: a communication hook, `hook(state, bucket) -> Future`.
 */
export type CommHook<S = unknown> = (state: S, bucket: GradBucket) => PromiseLike<Gradient | readonly Gradient[]>;

/** Options of `registerCommHook`. */
export interface CommHookOptions {
  /**
   * Whether the hook of a bucket may be called before that of the bucket before has ended. Only for hooks whose
   * collectives are all issued before the first `await`: else their order could differ between ranks. Default is what
   * the hook was marked with by {@link pipelined}, else `false`.
   */
  readonly pipelined?: boolean;
  /** Name of the hook in logs; by default that of the function. */
  readonly name?: string;
}

/** The hooks that need no registration by name. c10d: `BuiltinCommHookType`, with its numbers. */
export const BuiltinCommHookType: { readonly ALLREDUCE: 1; readonly FP16_COMPRESS: 2 } = Object.freeze({
  ALLREDUCE: 1,
  FP16_COMPRESS: 2,
});
export type BuiltinCommHookType = 1 | 2;

const marked = new WeakSet<object>();

/** Marks a hook all of whose collectives are issued before its first `await`. Returns it. */
export function pipelined<H extends object>(hook: H): H {
  marked.add(hook);
  return hook;
}

export function isPipelined(hook: object): boolean {
  return marked.has(hook);
}

const onHost = new WeakSet<object>();

/** Marks a hook that computes with the elements of gradients, which have to be in host memory for that. Returns it. */
export function computing<H extends object>(hook: H): H {
  onHost.add(hook);
  return hook;
}

/** Whether a hook is marked by {@link computing}. */
export function needsHost(hook: object): boolean {
  return onHost.has(hook);
}
