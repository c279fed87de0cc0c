import { afterEach, describe, expect, spyOn, test } from "bun:test";
import { DebugLevel, setDebugLevel } from "../../environment/index.ts";
import { InvalidArgumentError } from "../../errors/index.ts";
import { createContainer, loggerOf } from "../container.ts";
import { groupRank, setGlobalRank } from "./global-rank.ts";
import { LOGGER, type Logger, logLevels, prefixedLogger, stderrLogger } from "./logger.ts";

const spies: { mockRestore(): void }[] = [];
afterEach(() => {
  for (const spy of spies.splice(0)) spy.mockRestore();
  setDebugLevel(DebugLevel.OFF);
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
    expect(written(() => sayAll(stderrLogger(() => level)))).toEqual(all.slice(4 - count));
  });
});

describe("logLevels", () => {
  test.each([
    [{}, DebugLevel.OFF, "warn"],
    [{ C10D_LOG_LEVEL: "" }, DebugLevel.OFF, "warn"],
    [{ C10D_LOG_LEVEL: "Info" }, DebugLevel.OFF, "info"],
    [{ C10D_LOG_LEVEL: "silent" }, DebugLevel.DETAIL, "silent"],
    [{}, DebugLevel.INFO, "info"],
    [{}, DebugLevel.DETAIL, "debug"],
  ] as const)("%j at debug level %p is %s", (env, debugLevel, level) => {
    setDebugLevel(debugLevel);
    expect(logLevels(env)()).toBe(level);
  });

  test("another level is refused", () => {
    const read = () => logLevels({ C10D_LOG_LEVEL: "loud" });
    expect(read).toThrow(InvalidArgumentError);
    expect(read).toThrow('C10D_LOG_LEVEL must be one of debug, info, warn, error, silent, got "loud"');
  });
});

describe("setGlobalRank", () => {
  const line = () => written(() => stderrLogger(() => "warn").warn("late"));

  test("sets the rank that lines carry, until a group has one", () => {
    expect(line()).toEqual(["c10d warn: late"]);
    setGlobalRank(3);
    expect(line()).toEqual(["[rank3]: c10d warn: late"]);
    groupRank(1);
    expect(line()).toEqual(["[rank1]: c10d warn: late"]);
    groupRank(undefined);
    expect(line()).toEqual(["[rank3]: c10d warn: late"]);
    setGlobalRank(-1);
    expect(line()).toEqual(["c10d warn: late"]);
  });

  test.each([-2, 1.5, Number.NaN, "1"])("refuses %p", (rank) => {
    expect(() => setGlobalRank(rank as number)).toThrow(InvalidArgumentError);
    expect(line()).toEqual(["c10d warn: late"]);
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

  test("follows a change of the debug level", () => {
    const logger = loggerOf(createContainer());
    expect(written(() => sayAll(logger))).toHaveLength(2);
    setDebugLevel(DebugLevel.INFO);
    expect(written(() => sayAll(logger))).toHaveLength(3);
    setDebugLevel(DebugLevel.DETAIL);
    expect(written(() => sayAll(logger))).toHaveLength(4);
    setDebugLevel(DebugLevel.OFF);
    expect(written(() => sayAll(logger))).toHaveLength(2);
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
