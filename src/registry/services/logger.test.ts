import { afterEach, describe, expect, spyOn, test } from "bun:test";
import { InvalidArgumentError } from "../../errors/index.ts";
import { createContainer, loggerOf } from "../container.ts";
import { LOGGER, type Logger, logLevelFromEnvironment, prefixedLogger, stderrLogger } from "./logger.ts";

const spies: { mockRestore(): void }[] = [];
afterEach(() => {
  for (const spy of spies.splice(0)) spy.mockRestore();
});

/** The lines that `body` writes to stderr. */
function written(body: () => void): string[] {
  const lines: string[] = [];
  const spy = spyOn(console, "error").mockImplementation((line: string) => void lines.push(line));
  try {
    body();
  } finally {
    spy.mockRestore();
  }
  return lines;
}

function sayAll(logger: Logger): void {
  for (const level of ["debug", "info", "warn", "error"] as const) logger[level](`a ${level}`);
}

/** A logger that records its messages. */
function memoryLogger(): Logger & { readonly lines: string[] } {
  const lines: string[] = [];
  const keep = (level: string) => (message: string) => void lines.push(`${level}: ${message}`);
  return { lines, debug: keep("debug"), info: keep("info"), warn: keep("warn"), error: keep("error") };
}

describe("stderrLogger", () => {
  test.each([
    ["debug", 4],
    ["info", 3],
    ["warn", 2],
    ["error", 1],
    ["silent", 0],
  ] as const)("%s", (level, count) => {
    const all = ["c10d debug: a debug", "c10d info: a info", "c10d warn: a warn", "c10d error: a error"];
    expect(written(() => sayAll(stderrLogger(level)))).toEqual(all.slice(4 - count));
  });
});

describe("logLevelFromEnvironment", () => {
  test.each([
    [{}, "warn"],
    [{ C10D_LOG_LEVEL: "" }, "warn"],
    [{ C10D_LOG_LEVEL: "Info" }, "info"],
    [{ C10D_LOG_LEVEL: "silent", TORCH_DISTRIBUTED_DEBUG: "DETAIL" }, "silent"],
    [{ TORCH_DISTRIBUTED_DEBUG: "detail" }, "debug"],
    [{ TORCH_DISTRIBUTED_DEBUG: "INFO" }, "info"],
    [{ TORCH_DISTRIBUTED_DEBUG: "OFF" }, "warn"],
  ] as const)("%j is %s", (env, level) => {
    expect(logLevelFromEnvironment(env)).toBe(level);
  });

  test("another level is refused", () => {
    const read = () => logLevelFromEnvironment({ C10D_LOG_LEVEL: "loud" });
    expect(read).toThrow(InvalidArgumentError);
    expect(() => logLevelFromEnvironment({ TORCH_DISTRIBUTED_DEBUG: "LOUD" })).toThrow(
      'The value of TORCH_DISTRIBUTED_DEBUG must be OFF, INFO, or DETAIL; got "LOUD".',
    );
    expect(read).toThrow('C10D_LOG_LEVEL must be one of debug, info, warn, error, silent, got "loud"');
  });
});

describe("prefixedLogger", () => {
  test("adds the prefix", () => {
    const inner = memoryLogger();
    sayAll(prefixedLogger(inner, "rank 1: "));
    expect(inner.lines).toEqual([
      "debug: rank 1: a debug",
      "info: rank 1: a info",
      "warn: rank 1: a warn",
      "error: rank 1: a error",
    ]);
  });

  test("a broken logger affects nothing, and its message is not lost", () => {
    const warn = spyOn(process, "emitWarning").mockImplementation(() => {});
    spies.push(warn);
    const broken: Logger = {
      ...memoryLogger(),
      warn: () => {
        throw new Error("disk full");
      },
    };
    prefixedLogger(broken, "rank 1: ").warn("late");
    expect(warn.mock.calls[0]?.[0]).toBe("the logger failed (disk full) to take: rank 1: late");
  });

  test("nor does one that is async, that throws a non-string, or that lacks a method", async () => {
    const warn = spyOn(process, "emitWarning").mockImplementation(() => {});
    spies.push(warn);
    const broken = {
      debug: () => {
        throw Object.create(null);
      },
      info: async () => {
        throw new Error("disk full");
      },
    } as unknown as Logger;
    const logger = prefixedLogger(broken, "");
    logger.debug("first");
    logger.info("second");
    logger.warn("third");
    await Bun.sleep(0);
    const warnings = warn.mock.calls.map(([message]) => String(message));
    expect(warnings[0]).toBe("the logger failed (a thrown object) to take: first");
    expect(warnings[1]).toContain("is not a function");
    expect(warnings[2]).toBe("the logger failed (disk full) to take: second");
    warn.mockImplementation(() => {
      throw undefined;
    });
    const queue = spyOn(globalThis, "queueMicrotask").mockImplementation(() => {});
    spies.push(queue);
    logger.warn("to nobody");
    expect(queue).toHaveBeenCalledTimes(1);
  });
});

describe("LOGGER in a container", () => {
  test("is the one on stderr, at the level of the environment", () => {
    const before = process.env.C10D_LOG_LEVEL;
    process.env.C10D_LOG_LEVEL = "error";
    try {
      expect(written(() => sayAll(loggerOf(createContainer())))).toEqual(["c10d error: a error"]);
    } finally {
      if (before === undefined) delete process.env.C10D_LOG_LEVEL;
      else process.env.C10D_LOG_LEVEL = before;
    }
  });

  test("is replaced by registering another", () => {
    const [container, other] = [createContainer(), createContainer()];
    const own = memoryLogger();
    container.register(LOGGER, { useValue: own });
    container.register(LOGGER, { useValue: own });
    expect(loggerOf(container)).toBe(own);
    expect(loggerOf(other)).not.toBe(own);
    container.register(LOGGER, { useValue: console });
    expect(loggerOf(container)).toBe(console);
  });
});
