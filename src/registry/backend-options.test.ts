import { describe, expect, test } from "bun:test";
import fakePlugin from "../backends/fake/plugin.ts";
import glooPlugin from "../backends/gloo/plugin.ts";
import { InvalidArgumentError } from "../errors/index.ts";
import { memoryPlugin } from "../process-group/fixtures/memory-backend.ts";
import { checkBackendOptions, checkOptions } from "./backend-options.ts";
import type { BackendPlugin } from "./contracts/backend-plugin.ts";
import type { OptionsSchema, SchemaIssue, StandardSchema } from "./contracts/standard-schema.ts";

function withSchema(schema: OptionsSchema<object>): BackendPlugin {
  return memoryPlugin("mine", { options: () => schema });
}

/** A schema like those of zod and others: returns `output` if `check` finds no fault. */
function standard(
  check: (value: Record<string, unknown>) => readonly SchemaIssue[],
  output: (value: Record<string, unknown>) => object = (value) => value,
  jsonSchema?: () => object,
): StandardSchema<object> {
  const validate = async (value: unknown) => {
    const given = value as Record<string, unknown>;
    const issues = check(given);
    return issues.length > 0 ? { issues } : { value: output(given) };
  };
  const props = { version: 1, vendor: "test", validate } as const;
  return { "~standard": jsonSchema === undefined ? props : { ...props, jsonSchema: { input: jsonSchema } } };
}

async function refusal(promise: Promise<unknown>): Promise<InvalidArgumentError> {
  const error = await promise.then(
    () => new Error("they were taken"),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(InvalidArgumentError);
  return error as InvalidArgumentError;
}

describe("options of gloo and fake", () => {
  test.each<[BackendPlugin, object]>([
    [glooPlugin, { host: "::1", interface: "eth0", threads: 64 }],
    [glooPlugin, { threads: 1 }],
    [fakePlugin, { mode: "local", seed: 0 }],
    [fakePlugin, { seed: 7 }],
    [fakePlugin, { mode: "solo", errorOnCollective: true, delayMs: 0.5, failAt: 1 }],
    [fakePlugin, { mode: "solo", delayMs: Number.POSITIVE_INFINITY }],
  ])("$name accepts %j", async (plugin, options) => {
    expect(await checkOptions(plugin, options)).toEqual(options);
  });

  test.each<[BackendPlugin, object, string, string]>([
    [
      glooPlugin,
      { threds: 2 },
      "threds",
      'unknown option threds (known are host, interface, threads); did you mean "threads"?',
    ],
    [glooPlugin, { colour: 1 }, "colour", "unknown option colour (known are host, interface, threads)"],
    [glooPlugin, { host: 5 }, "host", "option host: Expected string, got 5"],
    [glooPlugin, { interface: null }, "interface", "option interface: Expected string, got null"],
    [glooPlugin, { threads: 0 }, "threads", "option threads: Expected a number of threads from 1 to 64, got 0"],
    [glooPlugin, { threads: 65 }, "threads", "option threads: Expected a number of threads from 1 to 64, got 65"],
    [glooPlugin, { threads: 1.5 }, "threads", "option threads: Expected an integer, got 1.5"],
    [glooPlugin, { threads: "2" }, "threads", 'option threads: Expected number, got "2"'],
    [glooPlugin, { threads: Number.NaN }, "threads", "option threads: Expected an integer, got NaN"],
    [
      glooPlugin,
      { host: 1, threads: 0 },
      "host",
      "wrong options:\n  option host: Expected string, got 1\n  option threads: Expected a number of threads from 1 to 64, got 0",
    ],
    [fakePlugin, { mode: "both" }, "mode", 'option mode: Expected "local" | "solo", got "both"'],
    [fakePlugin, { seed: -1 }, "seed", "option seed: Expected a value greater than or equal to 0, got -1"],
    [fakePlugin, { mode: "solo", seed: 1 }, "seed", 'option seed: Expected to be left out in mode "solo", got 1'],
    [fakePlugin, { failAt: 2 }, "failAt", 'option failAt: Expected to be left out in mode "local", got 2'],
  ])("%# are refused with path and value", async (plugin, options, path, message) => {
    const error = await refusal(checkOptions(plugin, options));
    expect(error.message).toBe(`backend "${plugin.name}": ${message}`);
    expect(error.code).toBe("INVALID_OPTION");
    expect(error.details).toEqual({ argument: path, backend: plugin.name });
  });

  test("undefined counts as not given", async () => {
    expect(await checkOptions(glooPlugin, { interface: undefined, threads: 3 })).toEqual({ threads: 3 });
  });
});

describe("checkOptions", () => {
  test("without options the schema is not requested", async () => {
    const plugin = memoryPlugin("mine", { options: () => Promise.reject(new Error("it was asked for")) });
    for (const given of [undefined, {}, { a: undefined }]) expect(await checkOptions(plugin, given)).toEqual({});
    expect(checkOptions(plugin, { a: 1 })).rejects.toThrow("it was asked for");
  });

  test("a plugin without a schema accepts no options", async () => {
    const error = await refusal(checkOptions(memoryPlugin("mine"), { colour: "red" }));
    expect(error.message).toBe('backend "mine" takes no options, got options.colour');
    expect(error.details.argument).toBe("colour");
  });

  test.each([[5], ["fast"], [null], [[1]]])("%j is not an options object", async (given) => {
    const error = await refusal(checkOptions(glooPlugin, given));
    expect(error.message).toBe(
      `options of backend "gloo" must be an object such as { threads: 4 }, got ${JSON.stringify(given)}`,
    );
  });

  test("the backend gets what the schema returns", async () => {
    const schema = standard(
      () => [],
      (given) => ({ ...given, level: Number(given.level), extra: true }),
    );
    expect(await checkOptions(withSchema(schema), { level: "3" })).toEqual({ level: 3, extra: true });
  });

  test("paths of nested values, as keys or as segments", async () => {
    const schema = standard(() => [
      { message: "Too deep", path: ["peers", 1, "port"] },
      { message: "Too wide", path: [{ key: "peers" }, { key: 0 }] },
    ]);
    const error = await refusal(checkOptions(withSchema(schema), { peers: [1, { port: "x" }] }));
    expect(error.message).toBe(
      'backend "mine": wrong options:\n  option peers[1].port: Too deep, got "x"\n  option peers[0]: Too wide, got 1',
    );
    expect(error.details.argument).toBe("peers[1].port");
  });

  test("an issue without a path is about the options as a whole", async () => {
    const error = await refusal(checkOptions(withSchema(standard(() => [{ message: "Not both" }])), { a: 1 }));
    expect(error.message).toBe('backend "mine": options: Not both, got {"a":1}');
    expect(error.details.argument).toBe("options");
  });

  test("an option that the schema drops is unknown", async () => {
    const schema = standard(
      () => [],
      ({ colour }) => ({ colour }),
    );
    const error = await refusal(checkOptions(withSchema(schema), { colour: "red", color: "red" }));
    expect(error.message).toBe('backend "mine": unknown option color (known are colour); did you mean "colour"?');
  });

  test("a name in an option that is an object is refused with those that are known there", async () => {
    const peers = { properties: { port: {}, host: {} } };
    const json = { properties: { peers, labels: { properties: {}, additionalProperties: {} }, port: {} } };
    const plugin = withSchema(
      standard(
        () => [],
        (value) => value,
        () => json,
      ),
    );
    const right = { peers: { port: 1 }, labels: { prot: 2 }, port: { prot: 3 } };
    expect(await checkOptions(plugin, right)).toEqual(right);
    const error = await refusal(checkOptions(plugin, { peers: { prt: 1 } }));
    expect(error.message).toBe('backend "mine": unknown option peers.prt (known are port, host); did you mean "port"?');
    expect(error.details.argument).toBe("peers.prt");
  });

  test("a schema that accepts any name says so in its JSON schema", async () => {
    const taking = (json: object) =>
      standard(
        () => [],
        (value) => value,
        () => json,
      );
    const properties = { colour: {} };
    for (const open of [{ properties, additionalProperties: {} }, { properties, patternProperties: {} }, {}]) {
      expect(await checkOptions(withSchema(taking(open)), { color: "red" })).toEqual({ color: "red" });
    }
    for (const closed of [{ properties }, { properties, additionalProperties: false }]) {
      await refusal(checkOptions(withSchema(taking(closed)), { color: "red" }));
    }
  });

  test("a schema that cannot be expressed in JSON Schema still checks", async () => {
    const schema = standard(
      ({ a }) => (a === 1 ? [] : [{ message: "Expected 1", path: ["a"] }]),
      (value) => value,
      () => {
        throw new Error("not in JSON Schema");
      },
    );
    expect(await checkOptions(withSchema(schema), { a: 1 })).toEqual({ a: 1 });
    expect((await refusal(checkOptions(withSchema(schema), { a: 2 }))).message).toContain(
      "option a: Expected 1, got 2",
    );
  });

  test("a function: its result, or its error", async () => {
    const check = (given: unknown) => {
      const { port } = given as { port?: number };
      if (port === undefined) throw new TypeError("port is missing");
      return { port: port + 1 };
    };
    expect(await checkOptions(withSchema(check), { port: 1 })).toEqual({ port: 2 });
    const error = await refusal(checkOptions(withSchema(check), { host: "h" }));
    expect(error.message).toBe('backend "mine": wrong options: port is missing');
    expect(error.cause).toBeInstanceOf(TypeError);
  });

  test("a function that is also a Standard Schema is used as one", async () => {
    const schema = Object.assign(
      () => ({ by: "function" }),
      standard(() => []),
    );
    expect(await checkOptions(withSchema(schema), { a: 1 })).toEqual({ a: 1 });
  });
});

describe("options for several backends", () => {
  const mine = withSchema(standard(() => []));

  test("one plugin for several devices counts once", async () => {
    expect(await checkBackendOptions([mine, mine], { a: 1 })).toEqual(new Map([[mine, { a: 1 }]]));
  });

  test("several take theirs by name", async () => {
    const checked = await checkBackendOptions([glooPlugin, mine], { gloo: { threads: 4 } });
    expect(checked.get(glooPlugin)).toEqual({ threads: 4 });
    expect(checked.get(mine)).toEqual({});
  });

  test("options that are not by name are refused", async () => {
    const error = await refusal(checkBackendOptions([glooPlugin, mine], { threads: 4 }));
    expect(error.message).toBe(
      "options.threads: with several backends (gloo, mine) options are by backend, as in { gloo: { … } }",
    );
    await refusal(checkBackendOptions([glooPlugin, mine], { gloo: 4 }));
  });
});

test("effect is loaded when there is something to check, not before", () => {
  const code = `
    const dist = await import(${JSON.stringify(new URL("../index.ts", import.meta.url).href)});
    const effect = () => Object.keys(require.cache).filter((file) => file.includes("/effect/dist/Schema")).length > 0;
    const start = (options) => dist.initProcessGroup({ backend: "fake", store: new dist.HashStore(), rank: 0, worldSize: 1, options });
    await start({});
    const before = effect();
    await dist.destroyProcessGroup();
    await start({ seed: 1 });
    console.log(JSON.stringify({ before, after: effect() }));
    await dist.destroyProcessGroup();
  `;
  const { stdout, stderr } = Bun.spawnSync({ cmd: [process.execPath, "-e", code], timeout: 20_000 });
  expect(stderr.toString()).toBe("");
  expect(JSON.parse(stdout.toString())).toEqual({ before: false, after: true });
});
