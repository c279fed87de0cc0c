import { InvalidArgumentError } from "../../errors/index.ts";
import { type TensorLike, type TensorView, viewTensor } from "../tensor-view.ts";

/** The tensor that a caller gave. @throws InvalidArgumentError that names caller and argument. */
export function viewOfArgument(caller: string, argument: string, value: TensorLike): TensorView {
  try {
    return viewTensor(value, argument);
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error;
    throw new InvalidArgumentError(`${caller}: ${error.message}`, { argument, code: error.code });
  }
}
