import "reflect-metadata";
import { afterEach, describe, expect, test } from "bun:test";
import { container as root } from "tsyringe";
import * as dist from "../index.ts";
import { memoryPlugin } from "../process-group/fixtures/memory-backend.ts";
import { defaultContainer, registryOf } from "../registry/index.ts";
import { TENSOR_PROTOCOL } from "../tensor/index.ts";

const { BACKEND_MIDDLEWARE, BACKEND_PLUGIN, LOGGER, RENDEZVOUS_HANDLER, createContainer } = dist;

afterEach(async () => {
  if (dist.isInitialized()) await dist.destroyProcessGroup();
});

/** A middleware that records the ops that it sees. */
function watching(name: string, seen: string[]): dist.Middleware {
  return {
    name,
    create: () => (next) => (calls) => {
      seen.push(...calls.map(({ op }) => `${name} ${op}`));
      return next(calls);
    },
  };
}

function scheme(name: string): dist.SchemeHandler {
  const handler = async () => ({ store: new dist.HashStore(), rank: 0, worldSize: 1 });
  return { scheme: name, handler };
}

async function allReduceIn(container: ReturnType<typeof createContainer>, backend: string, init?: string) {
  const place = init === undefined ? { store: new dist.HashStore(), rank: 0, worldSize: 1 } : { init };
  await dist.initProcessGroup({ backend, container, ...place });
  await dist.allReduce(new Float32Array([1]));
  await dist.destroyProcessGroup();
}

describe("two containers", () => {
  test("are isolated from each other: plugins, middleware, rendezvous handlers, loggers", async () => {
    const [one, other] = [createContainer(), createContainer()];
    const seen: string[] = [];
    one.register(BACKEND_PLUGIN, { useValue: memoryPlugin("mine") });
    one.register(BACKEND_MIDDLEWARE, { useValue: watching("one", seen) });
    one.register(RENDEZVOUS_HANDLER, { useValue: scheme("place") });
    one.register(LOGGER, { useValue: console });
    await allReduceIn(one, "mine", "place://");
    expect(seen).toEqual(["one allReduce"]);

    expect(registryOf(other).has("mine")).toBe(false);
    expect(dist.initProcessGroup({ backend: "fake", container: other, init: "place://" })).rejects.toThrow(
      "No rendezvous handler for place://",
    );
    await allReduceIn(other, "fake");
    expect(seen).toEqual(["one allReduce"]);
    expect(other.resolve(LOGGER)).not.toBe(console);
  });

  test("each have a flight recorder, which records the ops of their own groups", async () => {
    const [one, other] = [createContainer(), createContainer()];
    const [child, grandchild] = [one.createChildContainer(), other.createChildContainer().createChildContainer()];
    grandchild.register(dist.FLIGHT_RECORDER, { useValue: new dist.FlightRecorder() });
    await allReduceIn(child, "fake");
    await allReduceIn(one, "fake");
    await allReduceIn(grandchild, "fake");
    const ops = (container: typeof one) =>
      container
        .resolve(dist.FLIGHT_RECORDER)
        .entries()
        .map(({ op }) => op);
    const two = ["allReduce", "allReduce"];
    expect([one, child, other, grandchild].map(ops)).toEqual([two, two, [], ["allReduce"]]);
    const shared = new dist.FlightRecorder({ capacity: 1 });
    for (const each of [one, other]) each.register(dist.FLIGHT_RECORDER, { useValue: shared });
    await allReduceIn(one, "fake");
    await allReduceIn(other, "fake");
    expect([shared.recorded, ops(one), ops(other)]).toEqual([2, ["allReduce"], ["allReduce"]]);
  });

  test("a child inherits from its parent and adds its own; the parent is unaffected", async () => {
    const parent = createContainer();
    const child = parent.createChildContainer();
    const seen: string[] = [];
    parent.register(BACKEND_PLUGIN, { useValue: memoryPlugin("first") });
    parent.register(BACKEND_MIDDLEWARE, { useValue: watching("parent", seen) });
    child.register(BACKEND_PLUGIN, { useValue: memoryPlugin("second") });
    child.register(BACKEND_MIDDLEWARE, { useValue: watching("child", seen) });
    child.register(RENDEZVOUS_HANDLER, { useValue: scheme("place") });
    // Resolved in the child first: the parent must not get the child's registrations.
    expect(["first", "second"].map((name) => registryOf(child).has(name))).toEqual([true, true]);
    expect(["first", "second"].map((name) => registryOf(parent).has(name))).toEqual([true, false]);
    await allReduceIn(child, "first", "place://");
    await allReduceIn(child, "second");
    expect(seen).toEqual(["parent allReduce", "child allReduce", "parent allReduce", "child allReduce"]);
    seen.length = 0;
    await allReduceIn(parent, "first");
    expect(seen).toEqual(["parent allReduce"]);
  });

  test("what is registered later is seen at the next look-up, in children too", async () => {
    const parent = createContainer();
    const child = parent.createChildContainer();
    expect(registryOf(child).has("late")).toBe(false);
    parent.register(BACKEND_PLUGIN, { useValue: memoryPlugin("late") });
    expect(registryOf(child).has("late")).toBe(true);
  });

  test("the child's plugin replaces one of the same name of the parent, and a built-in one", async () => {
    const [parent, ofParent, ofChild] = [createContainer(), memoryPlugin("mine"), memoryPlugin("mine")];
    const child = parent.createChildContainer();
    const gloo = memoryPlugin("gloo", { type: dist.BackendType.GLOO });
    parent.register(BACKEND_PLUGIN, { useValue: ofParent });
    child.register(BACKEND_PLUGIN, { useValue: ofChild });
    child.register(BACKEND_PLUGIN, { useValue: gloo });
    expect(await registryOf(parent).get("mine")).toBe(ofParent);
    expect(await registryOf(child).get("mine")).toBe(ofChild);
    expect(await registryOf(child).get(dist.BackendType.GLOO)).toBe(gloo);
    expect(await registryOf(parent).get("gloo")).not.toBe(gloo);
  });
});

describe("tsyringe's own features", () => {
  test("a container made by tsyringe can be used for groups, too", async () => {
    const bare = root.createChildContainer();
    expect(bare.isRegistered(dist.BACKEND_REGISTRY, true)).toBe(false);
    await allReduceIn(bare, "fake");
    expect(registryOf(bare)).toBe(registryOf(bare));
    const child = bare.createChildContainer();
    await allReduceIn(child, "fake");
    const recorder = bare.resolve(dist.FLIGHT_RECORDER);
    expect(recorder.entries().map(({ op, state }) => `${op} ${state}`)).toEqual(Array(2).fill("allReduce completed"));
    expect(child.resolve(dist.FLIGHT_RECORDER)).toBe(recorder);
  });

  test("a recorder that is made when resolved must be made once", async () => {
    const container = createContainer();
    container.registerSingleton(dist.FLIGHT_RECORDER, dist.FlightRecorder);
    await allReduceIn(container, "fake");
    expect(container.resolve(dist.FLIGHT_RECORDER).recorded).toBe(1);
    for (const provider of [{ useClass: dist.FlightRecorder }, { useFactory: () => new dist.FlightRecorder() }]) {
      container.register(dist.FLIGHT_RECORDER, provider as never);
      const refusal = await allReduceIn(container, "fake").catch((error: unknown) => error);
      expect(String(refusal)).toContain("makes a recorder each time it is resolved; register one as a value");
    }
  });

  test("a plugin may be loaded when resolved, or made by a factory", async () => {
    const container = createContainer();
    let loads = 0;
    const load = async () => {
      loads++;
      return memoryPlugin("lazy");
    };
    const made = memoryPlugin("made");
    container.register(BACKEND_PLUGIN, { useValue: { name: "lazy", load } });
    container.register(BACKEND_PLUGIN, { useFactory: () => made });
    const registry = container.resolve(dist.BACKEND_REGISTRY);
    expect(registry.names()).toContain("lazy");
    expect([registry.isLoaded("lazy"), loads]).toEqual([false, 0]);
    expect((await registry.get("lazy")).name).toBe("lazy");
    await registry.get("lazy");
    expect([registry.isLoaded("lazy"), loads]).toEqual([true, 1]);
    expect(await registry.get("made")).toBe(made);
  });

  test("something that is not a plugin is an error when resolved, and does not affect others", async () => {
    const container = createContainer();
    container.register(BACKEND_PLUGIN, { useValue: { ...memoryPlugin("old"), sdk: 1 } });
    container.register(BACKEND_PLUGIN, { useValue: { name: "bad", load: async () => ({}) as never } });
    const registry = registryOf(container);
    expect(registry.get("old")).rejects.toMatchObject({ code: "SDK_MISMATCH" });
    expect(registry.get("bad")).rejects.toThrow('backend "bad"');
    expect((await registry.get("fake")).name).toBe("fake");
  });

  test("a disposed container is no longer the default one", async () => {
    const container = createContainer({ install: true });
    dist.registerBackend(memoryPlugin("installed"));
    expect(defaultContainer()).toBe(container);
    await container.dispose();
    expect(defaultContainer()).not.toBe(container);
    expect(registryOf().has("installed")).toBe(false);
  });
});

describe("BackendType and devices", () => {
  test("a group by the type of its backend", async () => {
    const gloo = memoryPlugin("gloo", { type: dist.BackendType.GLOO });
    const container = createContainer({ overrides: [gloo] });
    const store = new dist.HashStore();
    const group = await dist.initProcessGroup({
      backend: dist.BackendType.GLOO,
      container,
      store,
      rank: 0,
      worldSize: 1,
    });
    expect(group.backendName()).toBe("gloo");
    expect(group.backend(dist.BackendType.GLOO)).toBe(group.backend("cpu"));
    expect(() => group.backend(dist.BackendType.NCCL)).toThrow('group "0" has no backend of type NCCL');
    expect(dist.initProcessGroup({ backend: dist.BackendType.CUSTOM })).rejects.toThrow("twice");
  });

  test("a type without a backend", () => {
    const place = { store: new dist.HashStore(), rank: 0, worldSize: 1 };
    expect(dist.initProcessGroup({ backend: dist.BackendType.CUSTOM, ...place })).rejects.toThrow(
      "BackendType.CUSTOM does not identify a backend",
    );
  });

  test("the backend for a device type is for the device that the rank is bound to", async () => {
    const devices: dist.Device[] = [];
    const plugin = memoryPlugin("both", { devices: ["cpu", "cuda"] });
    const create: dist.BackendPlugin["create"] = (context) => {
      devices.push(context.device);
      return plugin.create(context);
    };
    const container = createContainer({ overrides: [{ ...plugin, create }] });
    const place = { store: new dist.HashStore(), rank: 0, worldSize: 1 };
    const group = await dist.initProcessGroup({ backend: "both", deviceId: "cuda:1", container, ...place });
    expect(devices).toEqual([
      { type: "cpu", index: 0 },
      { type: "cuda", index: 1 },
    ]);
    expect(group.boundDevice).toEqual({ type: "cuda", index: 1 });
    expect(group.backend({ type: "cuda", index: 1 })).toBe(group.backend("cuda"));
    const foreign = (index: number): dist.TensorLike => ({
      [TENSOR_PROTOCOL]: () => ({ ptr: 4096, byteLength: 4, dtype: "float32", device: { type: "cuda", index } }),
    });
    await dist.allReduce(foreign(1));
    expect(dist.allReduce(foreign(0)).exception()?.message).toBe(
      'allReduce: group "0" has no backend for cuda:0 tensors (it has cpu, cuda:1): ' +
        "it is bound to cuda:1, which deviceId does not make the current device: call cuda.setDevice(group.boundDevice), or make its tensors with { device: group.boundDevice }",
    );
    const derived = [await dist.newGroup([0]), await dist.splitGroup([[0]]), dist.roundRobinProcessGroups([group])];
    for (const each of derived) {
      expect(each?.boundDevice).toEqual({ type: "cuda", index: 1 });
      expect(each?.pipeline({ type: "cuda", index: 1 }).device).toEqual({ type: "cuda", index: 1 });
      expect(() => each?.pipeline({ type: "cuda", index: 0 })).toThrow("no backend for cuda:0 tensors");
    }
  });

  test("without a backend for host memory, ops without tensors go to the device, and objects are refused", async () => {
    const capabilities = { ops: { barrier: [] }, reduceOps: {} };
    const plugin = memoryPlugin("card", { devices: ["cuda"], capabilities });
    const container = createContainer({ overrides: [plugin] });
    const place = { store: new dist.HashStore(), rank: 0, worldSize: 1 };
    await dist.initProcessGroup({ backend: "card", deviceId: "cuda:1", container, ...place });
    await dist.barrier();
    expect(plugin.made[0]?.calls.map(({ op, device }) => ({ op, device }))).toEqual([
      { op: "barrier", device: { type: "cuda", index: 1 } },
    ]);
    const sparse = new dist.SparseTensor({ indices: [[0]], values: new Float32Array(1), shape: [1], sparseDims: 1 });
    const works = [dist.allGatherObject(1), dist.recvObject(), dist.allReduce(sparse)];
    expect(works.map((work) => work.exception()?.message)).toEqual(
      ["allGatherObject", "recvObject", "allReduce"].map(
        (op) =>
          `${op}: group "0" has no backend for cpu tensors (it has cuda:1), and this op exchanges host memory; ` +
          'make the group with a backend for each device, for instance "cpu:gloo,cuda:nccl"',
      ),
    );
  });

  test.each([
    "cuda:",
    "cuda:x",
    "cuda:-1",
    "tpu:0",
    "cuda:1:2",
    "cuda:99999999999999999999",
    "cuda:1e3",
    "cpu:1",
    -1,
    1.5,
    1e20,
  ])("%p is not a device", (deviceId) => {
    const place = { store: new dist.HashStore(), rank: 0, worldSize: 1 };
    expect(dist.initProcessGroup({ deviceId: deviceId as string, ...place })).rejects.toThrow(
      'initProcessGroup: deviceId must be a device such as "cuda:1" (cpu, cuda)',
    );
  });

  test("a device of a type that the backend does not support", () => {
    const place = { store: new dist.HashStore(), rank: 0, worldSize: 1 };
    expect(dist.initProcessGroup({ backend: "fake", deviceId: "cuda:0", ...place })).rejects.toThrow(
      "no backend of the group takes cuda tensors",
    );
  });
});

describe("an invalid value registered for a token", () => {
  const place = { store: new dist.HashStore(), rank: 0, worldSize: 1 };

  test.each([
    [BACKEND_MIDDLEWARE, { name: "x" }, 'middleware "x" must have a function create(), got undefined'],
    [BACKEND_MIDDLEWARE, () => {}, "a middleware is an object with a name and create(), got a function"],
    [BACKEND_PLUGIN, {}, "a backend is a plugin or { name, load }, got Object"],
    [dist.CLOCK, Date, "a clock is an object with now() and schedule(), got function Date"],
    [dist.FLIGHT_RECORDER, { entries: () => [] }, "a recorder is a FlightRecorder, got Object"],
  ])("is refused before the ranks meet (%#)", async (token, useValue, message) => {
    const container = createContainer();
    container.register(token as never, { useValue });
    const starting = dist.initProcessGroup({ backend: "fake", container, ...place });
    expect(await starting.catch((error: unknown) => error)).toMatchObject({
      name: "InvalidArgumentError",
      message: expect.stringContaining(message),
    });
  });

  test("is refused as a capacity of the flight recorder", async () => {
    const set = (text: string | undefined): void => {
      if (text === undefined) delete process.env.C10D_TRACE_BUFFER_SIZE;
      else process.env.C10D_TRACE_BUFFER_SIZE = text;
    };
    const before = process.env.C10D_TRACE_BUFFER_SIZE;
    const capacityIn = (text: string): number => {
      set(text);
      try {
        return createContainer().resolve(dist.FLIGHT_RECORDER).capacity;
      } finally {
        set(before);
      }
    };
    expect(["", "0", "7"].map(capacityIn)).toEqual([2000, 0, 7]);
    expect(() => capacityIn("many")).toThrow(
      'environment variable C10D_TRACE_BUFFER_SIZE must be an integer of at least 0, got "many"',
    );
  });

  test("is refused as the handler of a scheme", () => {
    const container = createContainer();
    container.register(RENDEZVOUS_HANDLER, { useValue: { scheme: "place" } as never });
    expect(dist.initProcessGroup({ backend: "fake", container, init: "place://" })).rejects.toThrow(
      "the handler of place:// must be a function, got undefined",
    );
  });

  test("is refused as a container", () => {
    const container = {} as never;
    expect(dist.initProcessGroup({ backend: "fake", container, ...place })).rejects.toThrow(
      "container must be one that createContainer() or tsyringe made, got Object",
    );
  });

  test.each([
    [memoryPlugin("other"), 'a plugin of another name, "other"'],
    [{ default: memoryPlugin("mine") }, "load() resolves to a module"],
  ])("is refused as the result of loading a lazy plugin (%#)", async (loaded, message) => {
    const container = createContainer();
    container.register(BACKEND_PLUGIN, { useValue: { name: "mine", load: async () => loaded as never } });
    const starting = dist.initProcessGroup({ backend: "mine", container, ...place });
    expect(await starting.catch((error: unknown) => error)).toMatchObject({
      code: "BACKEND_LOAD_FAILED",
      message: expect.stringContaining(message),
    });
  });

  test("a middleware that returns no Works is named", async () => {
    const container = createContainer();
    container.register(BACKEND_MIDDLEWARE, {
      useValue: { name: "forgetful", create: () => () => () => undefined as never },
    });
    await using group = await dist.initProcessGroup({
      backend: "fake",
      container,
      ...place,
      store: new dist.HashStore(),
    });
    const message = group.barrier().exception()?.message;
    expect(message).toStartWith('backend "fake" or its middleware ("forgetful"');
    expect(message).toEndWith(": submit() must return one new Work for each call, got undefined");
  });
});
