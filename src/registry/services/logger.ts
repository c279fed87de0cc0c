import type { InjectionToken } from "tsyringe";
import { type Environment, environmentChoice, environmentDebugLevel } from "../../environment/index.ts";
import { messageOf, warn } from "../../errors/index.ts";

/**
 * Where log messages go. `console`, pino and winston have this shape; register yours with
 * `container.register(LOGGER, { useValue: pino() })`.
 */
export interface Logger {
  debug(message: string): void;
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

/** Token of the {@link Logger} in a container. */
export const LOGGER: InjectionToken<Logger> = Symbol.for("bun-c10d.Logger");

const levels = ["debug", "info", "warn", "error", "silent"] as const;

/** The lowest level that is shown. */
export type LogLevel = (typeof levels)[number];

/**
 * The level that `C10D_LOG_LEVEL` names, else that of `TORCH_DISTRIBUTED_DEBUG` (INFO: info, DETAIL: debug), else
 * `warn`.
 * @throws InvalidArgumentError for invalid values of these variables.
 */
export function logLevelFromEnvironment(env?: Environment): LogLevel {
  const debugLevel = environmentDebugLevel(env);
  const level = environmentChoice("C10D_LOG_LEVEL", levels, env);
  if (level !== undefined) return level;
  if (debugLevel === "DETAIL") return "debug";
  return debugLevel === "INFO" ? "info" : "warn";
}

/** Writes messages of `level` and above to stderr, one per line. */
export function stderrLogger(level: LogLevel): Logger {
  const least = levels.indexOf(level);
  const writer = (own: LogLevel) =>
    levels.indexOf(own) < least ? () => {} : (message: string) => console.error(`c10d ${own}: ${message}`);
  return { debug: writer("debug"), info: writer("info"), warn: writer("warn"), error: writer("error") };
}

/** A logger that adds a prefix. It never throws: a broken logger must not fail an op. */
export function prefixedLogger(logger: Logger, prefix: string): Logger {
  const writer = (level: keyof Logger) => (message: string) => {
    const failed = (error: unknown) =>
      warn(`the logger failed (${messageOf(error)}) to take: ${prefix}${message}`, "LOGGER_FAILED");
    try {
      const returned: unknown = logger[level](`${prefix}${message}`);
      // If it is async, its rejection would otherwise end the process.
      if (returned instanceof Promise) returned.catch(failed);
    } catch (error) {
      failed(error);
    }
  };
  return { debug: writer("debug"), info: writer("info"), warn: writer("warn"), error: writer("error") };
}
