import { InvalidArgumentError } from "../errors/index.ts";
import { didYouMean } from "../errors/nearest-name.ts";
import { requireOptions } from "./validate.ts";

/** All names that a type of options has. */
export type OptionNames<Options> = Readonly<Record<keyof Options, true>>;

/** Throws for a non-object, and for an option with an unknown name, which would otherwise count as an option left out. */
export function requireOptionNames<Options>(caller: string, options: object, names: OptionNames<Options>): void {
  requireOptions(caller, options);
  const known = Object.keys(names);
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || Object.hasOwn(names, name)) continue;
    throw new InvalidArgumentError(
      `${caller}: unknown option ${name} (known are ${known.join(", ")})${didYouMean(name, known)}`,
      { argument: name },
    );
  }
}
