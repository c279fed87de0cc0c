import "reflect-metadata";
import { afterEach, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { DistError, type ErrorDetails, InvalidArgumentError } from "../errors/index.ts";
import { type MemoryPlugin, memoryPlugin } from "../process-group/fixtures/memory-backend.ts";
import type { ProcessGroup } from "../process-group/process-group.ts";
import { type BackendPlugin, createContainer } from "../registry/index.ts";
import { RENDEZVOUS_HANDLER } from "../rendezvous/index.ts";
import { HashStore, type Store } from "../store/index.ts";
import { currentContext, DistContext, withContext } from "./dist-context.ts";
import * as dist from "./index.ts";

afterEach(async () => {
  delete process.env.C10D_BACKEND;
  if (dist.isInitialized()) await dist.destroyProcessGroup();
});

interface Setup {
  readonly plugin: MemoryPlugin;
  readonly options: dist.InitOptions;
}

/** A new plugin in its own container, and a function that starts a group of one rank with it. */
function setup(changes: Partial<BackendPlugin> = {}, store: Store = new HashStore()): Setup {
  const plugin = memoryPlugin("memory", changes);
  const container = createContainer({ overrides: [plugin] });
  return { plugin, options: { store, rank: 0, worldSize: 1, backend: "memory", container, timeout: "5s" } };
}

async function rejection(
  promise: Promise<unknown>,
): Promise<{ name: string; code: string; message: string; details: ErrorDetails }> {
  const error = await promise.then(
    () => new Error("it was resolved"),
    (reason: unknown) => reason,
  );
  if (!(error instanceof DistError)) throw error;
  const { name, code, message, details } = error;
  return { name, code, message, details };
}

/** Starts `n` ranks in this process, each in its own context, which share a store. */
function localRanks<T>(n: number, body: (rank: number) => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: n }, (_, rank) => withContext(new DistContext(), () => body(rank))));
}

describe("initProcessGroup", () => {
  test("from a store, rank and world size", async () => {
    const { options, plugin } = setup();
    expect(dist.isInitialized()).toBe(false);
    const group = await dist.initProcessGroup(options);
    expect(dist.isInitialized()).toBe(true);
    expect([dist.getRank(), dist.getWorldSize(), dist.getBackend()]).toEqual([0, 1, "memory"]);
    expect([dist.getRank(group), dist.getWorldSize(group), dist.getBackend(group)]).toEqual([0, 1, "memory"]);
    expect([dist.getRank(null), dist.getWorldSize(null)]).toEqual([-1, -1]);
    expect([dist.getGlobalRank(group, 0), dist.getGroupRank(group, 0)]).toEqual([0, 0]);
    expect([group.name, group.timeoutMs, group.state]).toEqual(["0", 5_000, "OPEN"]);
    await dist.destroyProcessGroup();
    expect([dist.isInitialized(), group.state, plugin.made[0]?.closed]).toEqual([false, "CLOSED", 1]);
  });

  test.each([null, {}])("a create() that resolves to %p, which is not a Backend", async (made) => {
    const { options } = setup({ create: () => Promise.resolve(made as never) });
    const error = await rejection(dist.initProcessGroup(options));
    expect(error).toMatchObject({ name: "DistBackendError", code: "BACKEND_ERROR" });
    expect(error.message).toContain("must resolve to an instance of a class that extends Backend, got ");
    expect(dist.isInitialized()).toBe(false);
  });

  test("a rendezvous that cannot be left does not replace the error of the backend", async () => {
    const { options } = setup({ create: () => Promise.reject(new Error("no network")) });
    const store = new HashStore();
    const handler = async () => ({
      store,
      rank: 0,
      worldSize: 1,
      close: () => {
        throw new Error("cannot leave");
      },
    });
    const { backend = "", container = createContainer() } = options;
    container.register(RENDEZVOUS_HANDLER, { useValue: { scheme: "sticky", handler } });
    const failed = dist.initProcessGroup({ backend, init: "sticky://", container });
    expect(await failed.then(String, String)).toEndWith("create() threw no network");
  });

  test("an unknown debug level does not pass as OFF", async () => {
    const program = `import * as dist from ${JSON.stringify(join(import.meta.dir, "../index.ts"))};
      const world = { store: new dist.HashStore(), rank: 0, worldSize: 1 };
      await dist.initProcessGroup({ backend: "fake", ...world }).catch(({ name, message }) => console.log(name, message));
      console.log(dist.isInitialized());`;
    const run = (level: string) =>
      Bun.spawnSync({
        cmd: [process.execPath, "-e", program],
        env: { ...process.env, TORCH_DISTRIBUTED_DEBUG: level },
        timeout: 20_000,
      }).stdout.toString();
    expect(run("LOUD")).toStartWith(
      'InvalidArgumentError The value of TORCH_DISTRIBUTED_DEBUG must be OFF, INFO, or DETAIL; got "LOUD".',
    );
    expect(run("LOUD")).toEndWith("false\n");
    expect(run("info")).toBe("true\n");
  });

  test("log lines carry the rank: that of the group while there is one, else that of setGlobalRank()", () => {
    const program = `import * as dist from ${JSON.stringify(join(import.meta.dir, "../index.ts"))};
      const logger = dist.createContainer({ install: true }).resolve(dist.LOGGER);
      logger.warn("alone");
      dist.setGlobalRank(7);
      logger.warn("before");
      await dist.initProcessGroup({ backend: "fake", store: new dist.HashStore(), rank: 0, worldSize: 1 });
      logger.info("hidden");
      dist.setDebugLevel(dist.DebugLevel.INFO);
      logger.info("within");
      await dist.destroyProcessGroup();
      logger.warn("after");`;
    const { stderr } = Bun.spawnSync({
      cmd: [process.execPath, "-e", program],
      env: { ...process.env, TORCH_DISTRIBUTED_DEBUG: "", C10D_LOG_LEVEL: "" },
      timeout: 20_000,
    });
    expect(stderr.toString().trim().split("\n")).toEqual([
      "c10d warn: alone",
      "[rank7]: c10d warn: before",
      "[rank0]: c10d info: within",
      "[rank7]: c10d warn: after",
    ]);
  });

  test("again after its end", async () => {
    for (let i = 0; i < 3; i++) {
      const { options } = setup();
      await dist.initProcessGroup(options);
      await dist.destroyProcessGroup();
    }
    expect(dist.isInitialized()).toBe(false);
  });

  test("again in one store, one after the other", async () => {
    const store = new HashStore();
    for (let i = 0; i < 2; i++) {
      await dist.initProcessGroup(setup({}, store).options);
      await dist.destroyProcessGroup();
    }
    // The store is the caller's: it stays open.
    await store.set("k", "v");
    expect(await store.check(["k"])).toBe(true);
  });

  test("twice", async () => {
    const { options } = setup();
    const first = dist.initProcessGroup(options);
    const meanwhile = await rejection(dist.initProcessGroup(setup().options));
    expect(meanwhile).toMatchObject({ name: "InvalidArgumentError", code: "ALREADY_INITIALIZED" });
    const group = await first;
    const later = await rejection(dist.initProcessGroup(setup().options));
    expect(later.message).toBe("trying to initialize the default process group twice!");
    expect([group.state, dist.isInitialized()]).toEqual(["OPEN", true]);
  });

  test("a failure leaves nothing behind, and a second attempt may succeed", async () => {
    let broken = true;
    const made = memoryPlugin("memory");
    const { options } = setup({
      create: (context) => (broken ? Promise.reject(new DistError("no peers")) : made.create(context)),
    });
    expect((await rejection(dist.initProcessGroup(options))).message).toBe("no peers");
    expect(dist.isInitialized()).toBe(false);
    broken = false;
    await dist.initProcessGroup(options);
    expect(dist.isInitialized()).toBe(true);
  });

  test("with a backend per device, one of which fails: the other is closed", async () => {
    const host = memoryPlugin("memory");
    const device = memoryPlugin("broken", {
      devices: ["cuda"],
      create: () => Promise.reject(new DistError("no device")),
    });
    const container = createContainer({ overrides: [host, device] });
    const { options } = setup();
    const error = await rejection(dist.initProcessGroup({ ...options, container, backend: "cpu:memory,cuda:broken" }));
    expect(error.message).toBe("no device");
    expect(host.made.map(({ closed }) => closed)).toEqual([1]);
  });

  test("C10D_BACKEND is the default backend; the option wins", async () => {
    const { options, plugin } = setup();
    const { backend: _, ...rest } = options;
    process.env.C10D_BACKEND = "memory";
    await dist.initProcessGroup(rest);
    expect(plugin.made).toHaveLength(1);
    await dist.destroyProcessGroup();
    process.env.C10D_BACKEND = "nothing";
    await dist.initProcessGroup(options);
    expect(plugin.made).toHaveLength(2);
    await dist.destroyProcessGroup();
    expect((await rejection(dist.initProcessGroup(rest))).code).toBe("UNKNOWN_BACKEND");
  });

  test.each<[string, Partial<dist.InitOptions>, string, string]>([
    ["an unknown backend", { backend: "nope" }, "BackendUnavailableError", 'unknown backend "nope"'],
    ["a malformed backend", { backend: "tpu:x" }, "InvalidArgumentError", "Invalid device:backend pairing"],
    ["store and init", { init: "env://" }, "InvalidArgumentError", "Cannot specify both init and store"],
    ["store and initMethod", { initMethod: "env://" }, "InvalidArgumentError", "Cannot specify both init and store"],
    ["no rank", { rank: undefined }, "InvalidArgumentError", "if using store, got undefined"],
    ["a world of 0", { worldSize: 0 }, "InvalidArgumentError", "worldSize must be positive if using store"],
    ["a world of 1.5", { worldSize: 1.5 }, "InvalidArgumentError", "worldSize must be positive"],
    ["a negative rank", { rank: -1 }, "InvalidArgumentError", "rank must be between 0 and 0 if using store"],
    ["a rank too large", { rank: 1 }, "InvalidArgumentError", "rank must be between 0 and 0"],
    ["a fraction of a rank", { rank: 0.5 }, "InvalidArgumentError", "rank must be between"],
    ["a time-out of 0", { timeout: 0 }, "InvalidArgumentError", "timeout must be a positive number"],
    ["a time-out in words", { timeout: "soon" }, "InvalidArgumentError", 'got "soon"'],
    ["an invalid store", { store: {} as Store }, "InvalidArgumentError", "store must be a Store, got Object"],
  ])("%s", async (_, changes, name, message) => {
    const { options, plugin } = setup();
    const error = await rejection(dist.initProcessGroup({ ...options, ...changes }));
    expect(error.name).toBe(name);
    expect(error.message).toContain(message);
    expect([plugin.made.length, dist.isInitialized()]).toEqual([0, false]);
  });

  test.each(["rank", "worldSize"] as const)("a store without %s", async (missing) => {
    const { options } = setup();
    const { [missing]: _, ...rest } = options;
    const error = await rejection(dist.initProcessGroup(rest));
    expect(error).toMatchObject({ name: "InvalidArgumentError", details: { argument: missing } });
  });

  test("an unknown rendezvous scheme", async () => {
    const { store: _, ...options } = setup().options;
    const error = await rejection(dist.initProcessGroup({ ...options, init: "carrier-pigeon://roof" }));
    expect(error.message).toContain("No rendezvous handler for carrier-pigeon://");
  });

  test("rank 0 absent: the time-out names host and port", async () => {
    const free = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const { port } = free;
    free.stop(true);
    const { store: _, rank: __, worldSize: ___, ...options } = setup().options;
    const began = performance.now();
    const error = await rejection(
      dist.initProcessGroup({ ...options, timeout: 600, init: `tcp://127.0.0.1:${port}?rank=1&world_size=2` }),
    );
    expect(error).toMatchObject({ name: "DistTimeoutError", code: "CONNECT_TIMEOUT" });
    expect(error.message).toContain(`127.0.0.1:${port}`);
    expect(error.details).toMatchObject({ host: "127.0.0.1", port });
    expect(performance.now() - began).toBeWithin(500, 2_000);
  });

  test("a port in use", async () => {
    using other = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const { store: _, rank: __, worldSize: ___, ...options } = setup().options;
    const error = await rejection(
      dist.initProcessGroup({ ...options, init: `tcp://127.0.0.1:${other.port}?rank=0&world_size=1` }),
    );
    expect(error.name).toBe("DistNetworkError");
    expect(error.message).toMatch(/in use/i);
    expect(error.message).toContain(String(other.port));
    expect(dist.isInitialized()).toBe(false);
  });

  test("world sizes that differ in one store", async () => {
    const store = new HashStore();
    await dist.initProcessGroup({ ...setup({}, store).options, worldSize: 2 });
    const error = await withContext(new DistContext(), () =>
      rejection(dist.initProcessGroup({ ...setup({}, store).options, rank: 1, worldSize: 3 })),
    );
    expect(error).toMatchObject({ name: "InvalidArgumentError", code: "WORLD_SIZE_MISMATCH" });
    expect(error.message).toContain("rank 0 has 2, rank 1 has 3");
  });

  test("a connection made after the ranks have disagreed is closed, and nothing else happens", async () => {
    const store = new HashStore();
    const made = memoryPlugin("memory");
    const connected = Promise.withResolvers<void>();
    const slow = setup({ create: (context) => connected.promise.then(() => made.create(context)) }, store).options;
    const unhandled: unknown[] = [];
    const note = (reason: unknown) => void unhandled.push(reason);
    process.on("unhandledRejection", note);
    const first = rejection(dist.initProcessGroup({ ...slow, worldSize: 2 }));
    const second = withContext(new DistContext(), async () => {
      while (!(await store.check(["bun-c10d/world_size"]))) await Bun.sleep(1);
      return rejection(dist.initProcessGroup({ ...slow, rank: 1, worldSize: 3 }));
    });
    for (const error of await Promise.all([first, second])) expect(error.code).toBe("WORLD_SIZE_MISMATCH");
    connected.resolve();
    await Bun.sleep(20);
    process.off("unhandledRejection", note);
    expect(unhandled).toEqual([]);
    expect(made.made.map(({ closed }) => closed)).toEqual([1]);
  });

  test("a backend that cannot be closed does not hide why the other failed", async () => {
    const stuck = memoryPlugin("stuck");
    const cpu: BackendPlugin = {
      ...stuck,
      create: async (context) => {
        const backend = await stuck.create(context);
        backend.close = () => Promise.reject(new Error("stuck"));
        return backend;
      },
    };
    const cuda = memoryPlugin("broken", {
      devices: ["cuda"],
      create: () => Promise.reject(new DistError("no device")),
    });
    const container = createContainer({ overrides: [cpu, cuda] });
    const { options } = setup();
    const error = await rejection(dist.initProcessGroup({ ...options, container, backend: "cpu:stuck,cuda:broken" }));
    expect(error.message).toBe("no device");
  });

  test.each<[object, string]>([
    [{ timout: "5s" }, "unknown option timout (known are backend, deviceId, init, "],
    [{ timout: "5s" }, 'did you mean "timeout"?'],
    [{ world_size: 2 }, 'did you mean "worldSize"?'],
    [{ device: "cuda:0" }, "unknown option device"],
  ])("an unknown option: %p", async (options, message) => {
    const error = await rejection(dist.initProcessGroup(options));
    expect(error).toMatchObject({ name: "InvalidArgumentError", details: { argument: Object.keys(options)[0] } });
    expect(error.message).toStartWith("initProcessGroup: ");
    expect(error.message).toContain(message);
  });

  test("unknown options of further groups", async () => {
    await dist.initProcessGroup({ ...setup().options, initMethod: undefined } as dist.InitOptions);
    const wrong = { backends: "fake" } as object;
    for (const promise of [dist.newGroup([0], wrong), dist.splitGroup([[0]], wrong)]) {
      expect((await rejection(promise)).message).toContain("unknown option backends (known are ");
    }
  });

  test("options that are not an object", async () => {
    const none = null as unknown as dist.InitOptions;
    expect((await rejection(dist.initProcessGroup(none))).message).toBe(
      'initProcessGroup: options must be an object, got null; write for instance { backend: "gloo" }',
    );
    await dist.initProcessGroup(setup().options);
    for (const promise of [
      dist.newGroup([0], none as dist.NewGroupOptions),
      dist.splitGroup([[0]], none as dist.SplitGroupOptions),
    ]) {
      expect((await rejection(promise)).message).toContain("options must be an object");
    }
  });
});

describe("without a group", () => {
  test("a function that needs one says what to call", async () => {
    const message = "Default process group has not been initialized, please make sure to call initProcessGroup()";
    for (const call of [() => dist.getRank(), () => dist.getWorldSize(), () => dist.getBackend()]) {
      expect(call).toThrow(message);
    }
    for (const promise of [dist.destroyProcessGroup(), dist.newGroup(), dist.newGroup([0])]) {
      expect(await rejection(promise)).toMatchObject({
        name: "InvalidArgumentError",
        code: "NOT_INITIALIZED",
        message,
      });
    }
    for (const work of [
      dist.allReduce(new Float32Array(1)),
      dist.broadcast(new Float32Array(1), { src: 0 }),
      dist.barrier(),
    ]) {
      expect(work.exception()).toMatchObject({ code: "NOT_INITIALIZED", message });
    }
    expect([dist.getRank(null), dist.getWorldSize(null), dist.isInitialized()]).toEqual([-1, -1, false]);
  });

  test("the error of a call while initProcessGroup() is not awaited says so", async () => {
    const initialized = dist.initProcessGroup(setup().options);
    expect(() => dist.getRank()).toThrow("has not been initialized, please make sure to await initProcessGroup()");
    await initialized;
    expect(dist.getRank()).toBe(0);
  });

  test("queries about a group that this rank is not in, or about something that is not a group", async () => {
    await dist.initProcessGroup(setup().options);
    const wrong = [null, {}, "0"] as unknown as ProcessGroup[];
    for (const group of wrong) {
      for (const call of [
        () => dist.getBackend(group),
        () => dist.getGlobalRank(group, 0),
        () => dist.getGroupRank(group, 0),
      ]) {
        expect(call).toThrow(InvalidArgumentError);
        expect(call).toThrow("Invalid process group specified");
      }
      if (group !== null) expect(() => dist.getRank(group)).toThrow("Invalid process group specified");
    }
  });

  test("destroying a group without this rank does nothing", async () => {
    await dist.destroyProcessGroup(null);
    expect(dist.isInitialized()).toBe(false);
  });
});

describe("newGroup", () => {
  const start = async (rank: number, worldSize: number, store: Store): Promise<MemoryPlugin> => {
    const { plugin, options } = setup({}, store);
    await dist.initProcessGroup({ ...options, rank, worldSize });
    return plugin;
  };

  test("members get a group, the others null; names count every call on every rank", async () => {
    const store = new HashStore();
    await localRanks(4, async (rank) => {
      const plugin = await start(rank, 4, store);
      const some = await dist.newGroup([3, 1]);
      const all = await dist.newGroup(undefined, { timeout: "2s", description: "everybody" });
      expect(all).toMatchObject({ name: "2", rank, globalRanks: [0, 1, 2, 3], timeoutMs: 2_000 });
      expect(all?.description).toBe("everybody");
      if (rank % 2 === 0) expect(some).toBeNull();
      else {
        expect(some).toMatchObject({ name: "1", rank: (rank - 1) / 2, globalRanks: [1, 3], timeoutMs: 5_000 });
        expect([dist.getRank(some), dist.getWorldSize(some)]).toEqual([(rank - 1) / 2, 2]);
        if (some) {
          expect([dist.getGlobalRank(some, 1), dist.getGroupRank(some, 3)]).toEqual([3, 1]);
          expect(() => dist.getGlobalRank(some, 2)).toThrow('group rank 2 is not part of group "1"');
          expect(() => dist.getGroupRank(some, 0)).toThrow('global rank 0 is not part of group "1"');
        }
        expect(plugin.made[1]?.context).toMatchObject({ groupName: "1", size: 2, globalRanks: [1, 3] });
      }
      expect(plugin.made).toHaveLength(rank % 2 === 0 ? 2 : 3);
      await dist.destroyProcessGroup();
      expect(plugin.made.map(({ closed }) => closed)).toEqual(plugin.made.map(() => 1));
      expect([all?.state, dist.isInitialized()]).toEqual(["CLOSED", false]);
    });
  });

  test("the stores of groups do not mix", async () => {
    const store = new HashStore();
    await localRanks(2, async (rank) => {
      const plugin = await start(rank, 2, store);
      await dist.newGroup();
      const [first, second] = plugin.made.map(({ context }) => context.store);
      await first?.set(`from ${rank}`, "first");
      expect(await second?.check([`from ${rank}`])).toBe(false);
      expect(await first?.get(`from ${1 - rank}`)).toEqual(new TextEncoder().encode("first"));
      await dist.destroyProcessGroup();
    });
  });

  test.each<[string, unknown[], string]>([
    ["a rank that does not exist", [0, 2], "newGroup: rank 2 is out of range. Valid ranks are 0 to 1"],
    ["a negative rank", [-1], "rank -1 is out of range"],
    ["a fraction", [0.5], "rank 0.5 is out of range"],
    ["NaN", [Number.NaN], "rank NaN is out of range"],
    ["text", ["0"], "rank 0 is out of range"],
    ["a rank twice", [1, 0, 1], "must not contain duplicate entries, got [1, 0, 1]"],
    ["no rank", [], "ranks is an empty list"],
  ])("%s", async (_, ranks, message) => {
    const plugin = await start(0, 2, new HashStore());
    const error = await rejection(dist.newGroup(ranks as number[]));
    expect(error).toMatchObject({ name: "InvalidArgumentError", details: { op: "newGroup", argument: "ranks" } });
    expect(error.message).toContain(message);
    expect(plugin.made).toHaveLength(1);
    expect(await dist.newGroup([0])).toMatchObject({ name: "1" });
  });

  test.each<[unknown]>([[5], ["01"], [{}], [null]])("ranks that are not a list: %p", async (ranks) => {
    await start(0, 2, new HashStore());
    const error = await rejection(dist.newGroup(ranks as number[]));
    expect(error).toMatchObject({ name: "InvalidArgumentError", details: { op: "newGroup", argument: "ranks" } });
  });

  test("its own backend, or an unknown one", async () => {
    const store = new HashStore();
    const [plugin, other] = [memoryPlugin("memory"), memoryPlugin("other")];
    const container = createContainer({ overrides: [plugin, other] });
    await dist.initProcessGroup({ store, rank: 0, worldSize: 1, backend: "memory", container });
    const group = await dist.newGroup(undefined, { backend: "other" });
    expect([dist.getBackend(), group && dist.getBackend(group)]).toEqual(["memory", "other"]);
    expect((await rejection(dist.newGroup(undefined, { backend: "nope" }))).code).toBe("UNKNOWN_BACKEND");
    expect((await rejection(dist.newGroup(undefined, { timeout: -1 }))).details.argument).toBe("timeout");
  });

  test("destroying one group leaves the others", async () => {
    const plugin = await start(0, 1, new HashStore());
    const [a, b] = [await dist.newGroup(), await dist.newGroup()];
    await dist.destroyProcessGroup(a);
    expect([a?.state, b?.state, dist.isInitialized()]).toEqual(["CLOSED", "OPEN", true]);
    expect(plugin.made.map(({ closed }) => closed)).toEqual([0, 1, 0]);
    expect((await rejection(dist.destroyProcessGroup(a))).message).toBe("Invalid process group specified");
    await b?.close();
    expect((await rejection(dist.destroyProcessGroup(b))).message).toBe("Invalid process group specified");
  });
});

describe("contexts", () => {
  test("each rank in a process has its own; the process has another", async () => {
    const store = new HashStore();
    const outer = currentContext();
    const seen = await localRanks(3, async (rank) => {
      await dist.initProcessGroup({ ...setup({}, store).options, rank, worldSize: 3 });
      await Bun.sleep(1);
      const own = [dist.getRank(), dist.getWorldSize()];
      expect(currentContext()).not.toBe(outer);
      await dist.destroyProcessGroup();
      return own;
    });
    expect(seen).toEqual([
      [0, 3],
      [1, 3],
      [2, 3],
    ]);
    expect([currentContext(), dist.isInitialized()]).toEqual([outer, false]);
  });

  test("the process's own is found by all copies of the package", () => {
    expect(Reflect.get(globalThis, Symbol.for("bun-c10d.context"))).toBe(currentContext());
  });
});
