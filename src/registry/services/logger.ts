import type { InjectionToken } from "tsyringe";
import { DebugLevel, type Environment, environmentChoice, getDebugLevel } from "../../environment/index.ts";
import { messageOf, warn, watchReturned } from "../../errors/index.ts";
import { rankPrefix } from "./global-rank.ts";

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
 * What says from which level on messages are shown: the level that `C10D_LOG_LEVEL` names when this is called, else
 * that of the debug level at each message (OFF: warn, INFO: info, DETAIL: debug).
 * @throws InvalidArgumentError for invalid values of `C10D_LOG_LEVEL` and `TORCH_DISTRIBUTED_DEBUG`.
 */
export function logLevels(env?: Environment): () => LogLevel {
  getDebugLevel();
  const named = environmentChoice("C10D_LOG_LEVEL", levels, env);
  return named === undefined ? () => levelOf[getDebugLevel()] : () => named;
}

const levelOf: { readonly [level in DebugLevel]: LogLevel } = {
  [DebugLevel.OFF]: "warn",
  [DebugLevel.INFO]: "info",
  [DebugLevel.DETAIL]: "debug",
};

/**
 * Writes messages to stderr, one per line, behind the rank of this process if it is known ({@link setGlobalRank}).
 * @param least Called for each message: the lowest level that is shown.
 */
export function stderrLogger(least: () => LogLevel): Logger {
  const writer = (own: LogLevel) => (message: string) => {
    if (levels.indexOf(own) >= levels.indexOf(least())) console.error(`${rankPrefix()}c10d ${own}: ${message}`);
  };
  return { debug: writer("debug"), info: writer("info"), warn: writer("warn"), error: writer("error") };
}

/** A logger that adds a prefix. It never throws: a broken logger must not fail an op. */
export function prefixedLogger(logger: Logger, prefix: string): Logger {
  const writer = (level: keyof Logger) => (message: string) => {
    const failed = (error: unknown) =>
      warn(`the logger failed (${messageOf(error)}) to take: ${prefix}${message}`, "LOGGER_FAILED");
    try {
      const returned: unknown = logger[level](`${prefix}${message}`);
      void watchReturned(returned, failed);
    } catch (error) {
      failed(error);
    }
  };
  return { debug: writer("debug"), info: writer("info"), warn: writer("warn"), error: writer("error") };
}
