import { InvalidArgumentError } from "../errors/index.ts";
import { type EnvironmentName, environmentVariables, type NameOfType } from "./variables.ts";

/** Variables by their declared names: one that `environmentVariables` lacks does not compile. */
export type Environment = Readonly<Partial<Record<EnvironmentName, string | undefined>>>;

/** The environment of this process, the default of all that reads variables. */
export function processEnvironment(): Environment {
  return process.env as Environment;
}

/** Text of a variable; `undefined` when it is unset or empty. */
export function environmentText(name: EnvironmentName, env: Environment = processEnvironment()): string | undefined {
  return env[name] || undefined;
}

/**
 * Value of a variable that takes one of a few values, in any case; `undefined` when it is unset or empty.
 * @throws InvalidArgumentError for any other text, which would otherwise count as the default.
 */
export function environmentChoice<const Choice extends string>(
  name: EnvironmentName,
  choices: readonly Choice[],
  env: Environment = processEnvironment(),
): Choice | undefined {
  const text = environmentText(name, env);
  if (text === undefined) return undefined;
  const wanted = text.toLowerCase();
  const found = choices.find((choice) => choice.toLowerCase() === wanted);
  if (found !== undefined) return found;
  throw invalid(name, `one of ${choices.join(", ")}`, text);
}

/**
 * Value of an integer variable; `undefined` when it is unset or empty.
 * @throws InvalidArgumentError when it is not an integer of at least 0.
 */
export function environmentInteger(
  name: NameOfType<"integer">,
  env: Environment = processEnvironment(),
): number | undefined {
  const text = environmentText(name, env);
  if (text === undefined) return undefined;
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(value)) return value;
  throw invalid(name, "an integer of at least 0", text);
}

const on = ["true", "t", "1", "yes", "y", "on"] as const;
const off = ["false", "f", "0", "no", "n", "off"] as const;

/**
 * Whether a flag variable is on; its default applies when it is unset or empty. c10d: `getCvarBool`.
 * @throws InvalidArgumentError when it is neither on nor off.
 */
export function environmentFlag(name: NameOfType<"flag">, env: Environment = processEnvironment()): boolean {
  const choice = environmentChoice(name, [...on, ...off], env) ?? environmentVariables[name].default.toLowerCase();
  return on.some((each) => each === choice);
}

function invalid(name: EnvironmentName, expected: string, text: string): InvalidArgumentError {
  return new InvalidArgumentError(`environment variable ${name} must be ${expected}, got ${JSON.stringify(text)}`, {
    argument: name,
  });
}
