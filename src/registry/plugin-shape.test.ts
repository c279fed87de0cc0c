import { describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "../errors/index.ts";
import { memoryPlugin } from "../process-group/fixtures/memory-backend.ts";
import { BackendRegistry } from "./backend-registry.ts";
import { builtInBackends } from "./built-in-backends.ts";
import { BACKEND_SDK_VERSION } from "./contracts/sdk-version.ts";
import { pluginFault } from "./plugin-shape.ts";

/** A plugin as it may occur in JavaScript. */
function plugin(changes: object): unknown {
  return { ...memoryPlugin("mine"), ...changes };
}

describe("pluginFault", () => {
  test("nothing is wrong with the built-in ones", async () => {
    for (const { load } of builtInBackends) expect(pluginFault(await load())).toBeUndefined();
  });

  test.each<[string, unknown, string]>([
    ["nothing", undefined, "a plugin is an object with name, create() and so on, got undefined"],
    ["null", null, "got null"],
    ["a list", [memoryPlugin("mine")], "got a list"],
    ["a class", class {}, "got a function"],
    ["a module without a default", {}, `a backend's name is lower-case letters, digits, "-" and "_", got undefined`],
  ])("%s is not a plugin", (_, value, message) => {
    expect(pluginFault(value)?.message).toContain(message);
  });

  test.each<[string, object, string]>([
    ["name", { name: 5 }, "got a number"],
    ["type", { type: undefined }, 'backend "mine" must have the type BackendType.CUSTOM, got undefined'],
    ["probe", { probe: true }, 'backend "mine" must have a method probe(), got a boolean'],
    ["create", { create: undefined }, 'backend "mine" must have a method create(), got undefined'],
    ["options", { options: {} }, "options must be a function that returns the schema, got an object"],
    ["module", { module: new URL("file:///x") }, "module must be import.meta.url, got an object"],
    ["bootstrap", { bootstrap: "shop" }, 'bootstrap must be "store" or "self", got "shop"'],
    ["devices", { devices: "cpu" }, "devices must be a list of cpu, cuda, got a string"],
    ["devices", { devices: [] }, 'backend "mine" takes no kind of device'],
    ["devices", { devices: ["cuda", "cpu", "cuda"] }, 'backend "mine": devices has "cuda" twice'],
    ["devices", { devices: ["cpu", "gpu"] }, 'device "gpu" is not one of cpu, cuda'],
    ["capabilities", { capabilities: undefined }, 'backend "mine": capabilities.ops must be a table, got undefined'],
    ["capabilities", { capabilities: { ops: {} } }, "capabilities.reduceOps must be a table, got undefined"],
    [
      "capabilities",
      { capabilities: { ops: { allreduce: [] }, reduceOps: {} } },
      'capabilities.ops has the unknown row "allreduce"; did you mean "allReduce"?',
    ],
    [
      "capabilities",
      { capabilities: { ops: { allReduce: "float32" }, reduceOps: {} } },
      "capabilities.ops.allReduce must be a list, got a string",
    ],
    [
      "capabilities",
      { capabilities: { ops: { allReduce: ["float31"] }, reduceOps: {} } },
      'capabilities.ops.allReduce has the unknown value "float31"; did you mean "float32"?',
    ],
    [
      "capabilities",
      { capabilities: { ops: {}, reduceOps: { float32: ["sum"] } } },
      'capabilities.reduceOps.float32 has the unknown value "sum"; did you mean "SUM"?',
    ],
  ])("a wrong %s: %j", (field, changes, message) => {
    const fault = pluginFault(plugin(changes));
    expect(fault?.field).toBe(field);
    expect(fault?.message).toContain(message);
  });
});

describe("SDK version", () => {
  test("this one is accepted", () => {
    expect(BACKEND_SDK_VERSION).toBe(2);
    expect(pluginFault(plugin({ sdk: 2 }))).toBeUndefined();
  });

  test.each<[unknown, string]>([
    [3, 'backend "mine" was written for backend SDK 3, this bun-c10d has SDK 2: update bun-c10d'],
    [1, 'backend "mine" was written for backend SDK 1, this bun-c10d has SDK 2: update the backend'],
    [
      undefined,
      'backend "mine" does not say for which backend SDK it was written: give the plugin `sdk: 2` if it is this one',
    ],
    [
      "2",
      'backend "mine": sdk must be the number of the backend SDK that it was written for, got the string "2"; write `sdk: 2` if it is this one',
    ],
    [2.5, "got number 2.5"],
    [Number.NaN, "got number NaN"],
    [2n, "got bigint 2"],
    [null, "got null"],
    [{}, "got Object"],
  ])("%p is refused", (sdk, message) => {
    const error = (() => {
      try {
        return new BackendRegistry().register(plugin({ sdk }) as never);
      } catch (thrown) {
        return thrown;
      }
    })();
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect(error).toMatchObject({ code: "SDK_MISMATCH", details: { argument: "sdk", backend: "mine" } });
    expect((error as Error).message).toContain(message);
  });

  test("a plugin of another SDK is reported as such, whatever else it has", () => {
    expect(pluginFault({ sdk: 3, name: "future", make() {} })).toEqual({
      field: "sdk",
      message: 'backend "future" was written for backend SDK 3, this bun-c10d has SDK 2: update bun-c10d',
    });
  });
});
