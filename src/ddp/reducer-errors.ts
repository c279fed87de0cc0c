import { DistBackendError, type DistError, InvalidArgumentError } from "../errors/index.ts";

/** A parameter by its number and name, for messages. */
export interface NamedIndex {
  readonly index: number;
  readonly name: string;
}

const listed = (parameters: readonly NamedIndex[]) =>
  parameters.map(({ index, name }) => `${name} (index ${index})`).join(", ");

/** A backward pass has ended, or another one is to begin, before all gradients were there. */
export function unfinishedError(
  missing: readonly NamedIndex[],
  rank: number,
  isStatic: boolean,
  findsUnused: boolean,
): DistError {
  const reason = isStatic
    ? "This error indicates that your training graph has changed in this iteration, e.g., one parameter is used in first iteration, but then got unused in the second iteration. this is not compatible with static_graph set to True."
    : findsUnused
      ? "The backward pass has not been finished: await finish(), or finalizeBackward() of the reducer, in every iteration."
      : "This error indicates that your module has parameters that were not used in producing loss. If that is intended, pass findUnusedParameters: true.";
  const names =
    missing.length === 0 ? "" : ` Parameters which did not receive grad for rank ${rank}: ${listed(missing)}.`;
  return new InvalidArgumentError(
    `Expected to have finished reduction in the prior iteration before starting a new one. ${reason}${names}`,
    { code: "REDUCTION_NOT_FINISHED", rank },
  );
}

/** A parameter got a second gradient in one backward pass. */
export function readyTwiceError({ index, name }: NamedIndex, rank: number): DistError {
  return new InvalidArgumentError(
    `Expected to mark a variable ready only once. Parameter at index ${index} with name ${name} has been marked as ready twice. ` +
      "Add up the gradients of a parameter that is used several times before it is marked as ready, or set staticGraph: " +
      "true if every iteration uses the same parameters equally often.",
    { code: "READY_TWICE", rank, argument: name },
  );
}

/** A parameter got a gradient that was said to be unused. */
export function unexpectedError({ index, name }: NamedIndex, rank: number): DistError {
  return new InvalidArgumentError(
    `parameter ${name} (index ${index}) got a gradient, although backward({ unused }) names it`,
    { code: "READY_TWICE", rank, argument: name },
  );
}

/** A parameter got a gradient that it did not get in the first iteration of a static graph, or one more. */
export function graphChangedError({ index, name }: NamedIndex, rank: number): DistError {
  return new InvalidArgumentError(
    "Your training graph has changed in this iteration, e.g., one parameter is unused in first iteration, but then got used in the second iteration. this is not compatible with static_graph set to True. " +
      `Parameter at index ${index} with name ${name} got more gradients than in the first iteration.`,
    { code: "GRAPH_CHANGED", rank, argument: name },
  );
}

/** An earlier backward pass has failed. */
export function brokenError(cause: unknown, message: string): DistError {
  return new DistBackendError(
    `an earlier backward pass has failed, and the group with it: ${message}. ` +
      "To go on, call resetState() and updateProcessGroup() with a new group on all ranks",
    { code: "REDUCTION_FAILED", cause },
  );
}

/** A step was given up after some of its gradients had been sent. */
export function abandonedError(cause: unknown, message: string): DistError {
  return new DistBackendError(
    `the last step was given up after some of its gradients had been sent, and the group with it: its body threw ${message}. ` +
      "To go on, call resetState() and updateProcessGroup() with a new group on all ranks",
    { code: "STEP_ABANDONED", cause },
  );
}
