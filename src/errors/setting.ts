import { InvalidArgumentError } from "./dist-error.ts";

/**
 * One of a few values of an environment variable, in any case; undefined when it is unset or empty.
 * @throws InvalidArgumentError for any other text, which would otherwise pass as the default.
 */
export function choiceOf<const Choice extends string>(
  name: string,
  text: string | undefined,
  choices: readonly Choice[],
): Choice | undefined {
  if (text === undefined || text === "") return undefined;
  const wanted = text.toLowerCase();
  const found = choices.find((choice) => choice.toLowerCase() === wanted);
  if (found !== undefined) return found;
  throw new InvalidArgumentError(
    `environment variable ${name} must be one of ${choices.join(", ")}, got ${JSON.stringify(text)}`,
    { argument: name },
  );
}

/**
 * What TORCH_DISTRIBUTED_DEBUG says; OFF when it is unset or empty.
 * @throws InvalidArgumentError for any other text than these in any case, in PyTorch's words.
 */
export function debugLevelOf(text: string | undefined): "OFF" | "INFO" | "DETAIL" {
  const level = text ? text.toUpperCase() : "OFF";
  if (level === "OFF" || level === "INFO" || level === "DETAIL") return level;
  throw new InvalidArgumentError(
    `The value of TORCH_DISTRIBUTED_DEBUG must be OFF, INFO, or DETAIL; got ${JSON.stringify(text)}.`,
    { argument: "TORCH_DISTRIBUTED_DEBUG" },
  );
}

/**
 * Value of an integer variable; undefined when it is unset or empty.
 * @throws InvalidArgumentError when it is no integer of at least 0.
 */
export function integerOf(name: string, text: string | undefined): number | undefined {
  if (text === undefined || text === "") return undefined;
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(value)) return value;
  throw new InvalidArgumentError(
    `environment variable ${name} must be an integer of at least 0, got ${JSON.stringify(text)}`,
    { argument: name },
  );
}

const on = ["true", "t", "1", "yes", "y", "on"] as const;
const off = ["false", "f", "0", "no", "n", "off"] as const;

/**
 * Whether a flag variable is on; off when it is unset or empty. c10d: `getCvarBool`.
 * @throws InvalidArgumentError for a text that is neither.
 */
export function flagOf(name: string, text: string | undefined): boolean {
  const choice = choiceOf(name, text, [...on, ...off]);
  return on.some((each) => each === choice);
}
