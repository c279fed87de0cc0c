import { environmentFlag } from "../../environment/index.ts";
import { describe, InvalidArgumentError } from "../../errors/index.ts";

/**
 * The option `checkForNan`, or what applies without it.
 * @throws InvalidArgumentError if it is not a boolean.
 */
export function nanOption(caller: string, given: unknown, otherwise: () => boolean): boolean {
  if (given === undefined) return otherwise();
  if (typeof given === "boolean") return given;
  throw new InvalidArgumentError(`${caller}: checkForNan must be true or false, got ${describe(given)}`, {
    argument: "checkForNan",
  });
}

/** Whether the environment asks for the check. */
export function nanCheckByEnvironment(): boolean {
  // Both are read, so that an invalid value of either is an error.
  const [named, ofNccl] = [environmentFlag("TORCH_DIST_NAN_CHECK"), environmentFlag("TORCH_NCCL_NAN_CHECK")];
  return named || ofNccl;
}
