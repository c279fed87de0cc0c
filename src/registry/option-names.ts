import { InvalidArgumentError } from "../errors/index.ts";
import { didYouMean } from "../errors/nearest-name.ts";

/** The names that a type of options has, all of them. */
export type OptionNames<Options> = Readonly<Record<keyof Options, true>>;

/** Refuses an option with an unknown name, which would count as one that was left out: a limit, say, or a place to meet. */
export function requireOptionNames<Options>(caller: string, options: object, names: OptionNames<Options>): void {
  const known = Object.keys(names);
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || Object.hasOwn(names, name)) continue;
    throw new InvalidArgumentError(
      `${caller}: unknown option ${name} (known are ${known.join(", ")})${didYouMean(name, known)}`,
      { argument: name },
    );
  }
}
