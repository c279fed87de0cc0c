import { environmentDebugLevel } from "../environment/index.ts";
import { InvalidArgumentError } from "../errors/index.ts";

/** How much is checked and logged. c10d: `DebugLevel`. */
export enum DebugLevel {
  OFF = 0,
  INFO = 1,
  DETAIL = 2,
}

let current: DebugLevel | undefined;

/**
 * The debug level, read from TORCH_DISTRIBUTED_DEBUG at the first call, or by `initProcessGroup()`, unless it was set
 * before. c10d: `get_debug_level`, which reads the variable on import.
 * @throws InvalidArgumentError if the value is not a level.
 */
export function getDebugLevel(): DebugLevel {
  current ??= DebugLevel[environmentDebugLevel()];
  return current;
}

/** Sets the debug level of this process. c10d: `set_debug_level`. */
export function setDebugLevel(level: DebugLevel): void {
  if (DebugLevel[level] === undefined) {
    throw new InvalidArgumentError(`debug level must be OFF, INFO or DETAIL, got ${String(level)}`, {
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
  current = DebugLevel[environmentDebugLevel(env)];
}
