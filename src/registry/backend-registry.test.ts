import { beforeEach, describe, expect, test } from "bun:test";
import { BackendUnavailableError, InvalidArgumentError } from "../errors/index.ts";
import { memoryPlugin } from "../process-group/fixtures/memory-backend.ts";
import { BackendRegistry } from "./backend-registry.ts";
import type { BackendPlugin } from "./contracts/backend-plugin.ts";
import { BackendType } from "./contracts/backend-type.ts";

let loads = 0;
const builtIn = memoryPlugin("gloo", { type: BackendType.GLOO });
let registry: BackendRegistry;

beforeEach(() => {
  loads = 0;
  registry = new BackendRegistry([
    {
      name: "gloo",
      load: async () => {
        loads++;
        return builtIn;
      },
    },
  ]);
});

function refusal(call: () => void): InvalidArgumentError {
  try {
    call();
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidArgumentError);
    return error as InvalidArgumentError;
  }
  throw new Error("it was taken");
}

async function rejection(promise: Promise<unknown>): Promise<BackendUnavailableError> {
  const error = await promise.then(
    () => new Error("it was resolved"),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(BackendUnavailableError);
  return error as BackendUnavailableError;
}

describe("BackendRegistry", () => {
  test("names come with types; unknown ones are CUSTOM", () => {
    registry.register(memoryPlugin("mine"));
    expect(registry.names()).toEqual(["gloo", "mine"]);
    expect(["gloo", "nccl", "ucc", "mpi", "mine", "other"].map((name) => BackendType[registry.typeOf(name)])).toEqual([
      "GLOO",
      "NCCL",
      "UCC",
      "MPI",
      "CUSTOM",
      "CUSTOM",
    ]);
    expect([registry.has("gloo"), registry.has("Mine"), registry.has("other")]).toEqual([true, true, false]);
  });

  test("a built-in backend is loaded on first use, once", async () => {
    expect(registry.has("gloo")).toBe(true);
    expect(loads).toBe(0);
    expect(await registry.get("GLOO")).toBe(builtIn);
    expect(await registry.get("gloo")).toBe(builtIn);
    expect(loads).toBe(1);
  });

  test("a name twice", async () => {
    const [first, second] = [memoryPlugin("mine"), memoryPlugin("mine")];
    registry.register(first);
    const error = refusal(() => registry.register(second));
    expect(error.code).toBe("BACKEND_EXISTS");
    expect(error.message).toContain('backend "mine" is already registered; pass { replace: true }');
    expect(await registry.get("mine")).toBe(first);
    registry.register(second, { replace: true });
    expect(await registry.get("mine")).toBe(second);
    expect(registry.names()).toEqual(["gloo", "mine"]);
  });

  test("the name of a built-in backend", async () => {
    const own = memoryPlugin("gloo", { type: BackendType.GLOO });
    const error = refusal(() => registry.register(own));
    expect(error.code).toBe("BACKEND_EXISTS");
    expect(error.message).toContain('backend "gloo" is built in; pass { replace: true }');
    registry.register(own, { replace: true });
    expect(await registry.get("gloo")).toBe(own);
    expect(loads).toBe(0);
    expect(refusal(() => registry.register(own)).message).toContain("is already registered");
  });

  test.each([
    ["no name", { name: undefined as unknown as string }, "name is lower-case letters"],
    ["an empty name", { name: "" }, "name is lower-case letters"],
    ["upper case", { name: "Mine" }, 'got "Mine"'],
    ["a colon", { name: "cpu:mine" }, 'got "cpu:mine"'],
    ["a comma", { name: "a,b" }, "name is lower-case letters"],
    ["a digit first", { name: "2nd" }, "name is lower-case letters"],
    [
      "a type that is c10d's",
      { type: BackendType.GLOO },
      "must have the type BackendType.CUSTOM, got BackendType.GLOO",
    ],
    ["no type", { type: BackendType.UNDEFINED }, "got BackendType.UNDEFINED"],
    ["c10d's name with another type", { name: "mpi" }, 'backend "mpi" must have the type BackendType.MPI'],
    ["no devices", { devices: [] }, 'backend "mine" takes no kind of device'],
  ] satisfies [string, Partial<BackendPlugin>, string][])("a plugin with %s", (_, changes, message) => {
    expect(refusal(() => registry.register(memoryPlugin("mine", changes))).message).toContain(message);
    expect(registry.names()).toEqual(["gloo"]);
  });

  test("an unknown name: the known ones and what to do", async () => {
    registry.register(memoryPlugin("mine"));
    for (const call of [registry.get("glou"), registry.probe("glou"), registry.require("glou")]) {
      const error = await rejection(call);
      expect(error.code).toBe("UNKNOWN_BACKEND");
      expect(error.message).toBe(
        'unknown backend "glou": known are gloo, mine; did you mean "gloo"? ' +
          "Add your own with registerBackend(plugin), or name its module in C10D_BACKENDS.",
      );
    }
    const nccl = await rejection(registry.get("nccl"));
    expect(nccl.message).toStartWith('unknown backend "nccl", which this version does not have yet: known are');
  });

  test("a backend that cannot be loaded is tried again next time", async () => {
    let broken = true;
    const flaky = new BackendRegistry([
      {
        name: "gloo",
        load: () => (broken ? Promise.reject(new Error("disk is gone")) : Promise.resolve(builtIn)),
      },
    ]);
    const error = await rejection(flaky.get("gloo"));
    expect(error.message).toBe('backend "gloo" cannot be loaded: disk is gone');
    expect(error.cause).toBeInstanceOf(Error);
    broken = false;
    expect(await flaky.get("gloo")).toBe(builtIn);
  });

  test("probe tells version, or reason and remedy", async () => {
    registry.register(memoryPlugin("good"));
    const absent = { available: false, reason: "libmine.so is missing", remedy: "apt-get install libmine" } as const;
    registry.register(memoryPlugin("absent", { probe: () => Promise.resolve(absent) }));
    registry.register(
      memoryPlugin("broken", {
        probe: () => {
          throw new Error("probe fell over");
        },
      }),
    );
    expect(await registry.probe("good")).toEqual({ available: true, version: "1.0" });
    expect(await registry.probe("absent")).toEqual(absent);
    expect(await registry.probe("broken")).toMatchObject({ available: false, reason: "probe fell over" });

    expect((await registry.require("good")).name).toBe("good");
    const error = await rejection(registry.require("absent"));
    expect(error.message).toBe('backend "absent" cannot run here: libmine.so is missing\napt-get install libmine');
    expect(error.code).toBe("BACKEND_UNAVAILABLE");
    expect(error.details.backend).toBe("absent");
    await rejection(registry.require("broken"));
  });

  test("a probe that does not say whether the backend can run counts as unavailable", async () => {
    registry.register(memoryPlugin("silent", { probe: () => Promise.resolve(null as never) }));
    const error = await rejection(registry.require("silent"));
    expect(error.message).toContain('backend "silent" cannot run here: probe() of the plugin does not say whether');
  });

  test("a reason that names the backend does not name it twice", async () => {
    const reason = 'backend "absent": no shim found';
    const probe = () => Promise.resolve({ available: false, reason, remedy: "Build it." } as const);
    registry.register(memoryPlugin("absent", { probe }));
    const error = await rejection(registry.require("absent"));
    expect(error.message).toBe('backend "absent" cannot run here: no shim found\nBuild it.');
  });
});
