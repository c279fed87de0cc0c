import { describeNumber, InvalidArgumentError } from "../errors/index.ts";
import { type Environment, environmentText } from "./environment.ts";

/** How much is checked and logged. c10d: `DebugLevel`. */
export enum DebugLevel {
  OFF = 0,
  /** Also log messages of level `info`. */
  INFO = 1,
  /** Also log messages of level `debug`, and compare each collective of new groups before it begins (docs/desync.md). */
  DETAIL = 2,
}

let current: DebugLevel | undefined;

/**
 * The debug level of this process, read from TORCH_DISTRIBUTED_DEBUG at the first call, or by `initProcessGroup()`,
 * unless it was set before. c10d: `get_debug_level`, which reads the variable on import.
 * @throws InvalidArgumentError if the value is not a level.
 */
export function getDebugLevel(): DebugLevel {
  current ??= environmentDebugLevel();
  return current;
}

/**
 * Sets the debug level of this process. What is logged changes at once, in existing groups too; collectives are compared
 * in the groups that are made from now on, so all ranks have to set the same level before they make one.
 * c10d: `set_debug_level`.
 * @throws InvalidArgumentError if `level` is not a level.
 */
export function setDebugLevel(level: DebugLevel): void {
  // Not by name: an enum also has its numbers as keys.
  if (typeof level !== "number" || DebugLevel[level] === undefined) {
    const name = typeof level === "string" && Object.hasOwn(DebugLevel, level) ? `; write DebugLevel.${level}` : "";
    throw new InvalidArgumentError(`debug level must be OFF, INFO or DETAIL, got ${describeNumber(level)}${name}`, {
      argument: "level",
    });
  }
  current = level;
}

/**
 * Sets the debug level from TORCH_DISTRIBUTED_DEBUG (OFF, INFO or DETAIL in any case; unset is OFF).
 * c10d: `set_debug_level_from_env`.
 * @throws InvalidArgumentError for any other value; the level is then unchanged.
 */
export function setDebugLevelFromEnv(env?: Readonly<Record<string, string | undefined>>): void {
  current = environmentDebugLevel(env);
}

/** With PyTorch's message for any other text. */
function environmentDebugLevel(env?: Environment): DebugLevel {
  const text = environmentText("TORCH_DISTRIBUTED_DEBUG", env);
  const level = text?.toUpperCase() ?? "OFF";
  if (level === "OFF" || level === "INFO" || level === "DETAIL") return DebugLevel[level];
  throw new InvalidArgumentError(
    `The value of TORCH_DISTRIBUTED_DEBUG must be OFF, INFO, or DETAIL; got ${JSON.stringify(text)}.`,
    { argument: "TORCH_DISTRIBUTED_DEBUG" },
  );
}
