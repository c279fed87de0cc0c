import { describe, InvalidArgumentError } from "../../errors/index.ts";
import type { CommHook } from "../comm-hook.ts";
import { requireBuffer } from "../grad-bucket.ts";
import type { Gradient, Parameter } from "../parameter.ts";
import { likeIts, requireHook } from "./compress-wrappers.ts";

/** Optimizer of {@link hookThenOptimizer}. c10d: a functional optimizer. */
export interface StepwiseOptimizer {
  /**
   * Updates a parameter.
   *
   * @param gradient The average over all ranks, in the shape of the parameter. It is part of the bucket: it must not be
   *   kept, since it changes in the next iteration.
   *
   * c10d: `step_param`.
   */
  stepParameter(parameter: Parameter, gradient: Gradient): unknown;
}

/**
 * A hook that runs an optimizer as soon as a bucket has been exchanged by another hook, while other gradients are still
 * computed and exchanged. The backward pass must not read parameters whose gradients are ready. With
 * `ddp.reducer.setOptimizerInBackward()`, averages are not copied to the gradients.
 *
 * @param hook The hook that averages, such as `allReduceHook`.
 * @param parameters The parameters to update, of `ddp.parameters`; all by default.
 * @throws InvalidArgumentError if `hook` is no function or `optimizer` has no `stepParameter`.
 *
 * c10d: `_hook_then_optimizer`.
 */
export function hookThenOptimizer<S>(
  hook: CommHook<S>,
  optimizer: StepwiseOptimizer,
  parameters?: Iterable<Parameter>,
): CommHook<S> {
  requireHook("hookThenOptimizer", hook);
  if (typeof (optimizer as StepwiseOptimizer | null | undefined)?.stepParameter !== "function") {
    throw new InvalidArgumentError(
      `hookThenOptimizer: optimizer must have a method stepParameter(parameter, gradient), got ${describe(optimizer)}`,
      { argument: "optimizer" },
    );
  }
  const chosen = parameters === undefined ? undefined : new Set(parameters);
  return likeIts(hook, async function hookThenOptimizerHook(state, bucket) {
    const result = await hook(state, bucket);
    const [first] = Array.isArray(result) ? result : [result];
    bucket.setBuffer(requireBuffer(first, bucket, `the result of ${hook.name}`));
    const gradients = bucket.gradients();
    for (const [i, parameter] of bucket.parameters().entries()) {
      if (chosen?.has(parameter) ?? true) await optimizer.stepParameter(parameter, gradients[i] as Gradient);
    }
    return bucket.buffer();
  });
}
