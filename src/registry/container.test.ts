import "reflect-metadata";
import { afterAll, describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "../errors/index.ts";
import { memoryPlugin } from "../process-group/fixtures/memory-backend.ts";
import { BackendRegistry } from "./backend-registry.ts";
import { builtInBackends } from "./built-in-backends.ts";
import { BACKEND_REGISTRY, createContainer, defaultContainer, registerBackend, registryOf } from "./container.ts";
import { BackendType } from "./contracts/backend-type.ts";

// Nothing of this may affect later tests in this process.
afterAll(() => void createContainer({ install: true }));

describe("containers", () => {
  test("each has its own registry, with the built-in backends", () => {
    const [a, b] = [createContainer(), createContainer()];
    expect(registryOf(a)).toBeInstanceOf(BackendRegistry);
    expect(registryOf(a)).toBe(a.resolve(BACKEND_REGISTRY));
    expect(registryOf(a)).not.toBe(registryOf(b));
    registryOf(a).register(memoryPlugin("mine"));
    expect([registryOf(a).has("mine"), registryOf(b).has("mine")]).toEqual([true, false]);
    expect(registryOf(b).has("gloo")).toBe(true);
  });

  test("overrides replace built-in backends, only there", async () => {
    const fake = memoryPlugin("gloo", { type: BackendType.GLOO });
    const container = createContainer({ overrides: [fake, memoryPlugin("extra")] });
    expect(await registryOf(container).get("gloo")).toBe(fake);
    expect(registryOf(container).names()).toEqual([...builtInBackends.map(({ name }) => name), "extra"]);
    expect(registryOf().has("extra")).toBe(false);
    expect(await registryOf().get("gloo")).not.toBe(fake);
  });

  test("a bad override is refused", () => {
    expect(() => createContainer({ overrides: [memoryPlugin("Bad Name")] })).toThrow(InvalidArgumentError);
    expect(() => createContainer({ overrides: memoryPlugin("extra") as never })).toThrow(
      "createContainer: overrides must be a list of plugins, got ",
    );
  });

  test("invalid options are refused", () => {
    expect(() => createContainer({ override: [] } as object)).toThrow(
      'createContainer: unknown option override (known are overrides, install); did you mean "overrides"?',
    );
    expect(() => createContainer(null as never)).toThrow("createContainer: options must be an object, got null");
  });

  test("install makes it the one that registerBackend uses", () => {
    const before = defaultContainer();
    const container = createContainer({ install: true });
    expect(defaultContainer()).toBe(container);
    expect(defaultContainer()).not.toBe(before);
    registerBackend(memoryPlugin("installed"));
    expect(registryOf(container).has("installed")).toBe(true);
    expect(registryOf(before).has("installed")).toBe(false);
    expect(() => registerBackend(memoryPlugin("installed"))).toThrow("already registered");
    registerBackend(memoryPlugin("installed"), { replace: true });
    createContainer();
    expect(defaultContainer()).toBe(container);
  });

  test("anything else can be registered", () => {
    const container = createContainer();
    container.register("answer", { useValue: 42 });
    expect(container.resolve<number>("answer")).toBe(42);
    expect(createContainer().isRegistered("answer")).toBe(false);
  });
});
