import { afterEach, describe, expect, test } from "bun:test";
import * as dist from "../../index.ts";
import { type MemoryPlugin, memoryPlugin } from "../../process-group/fixtures/memory-backend.ts";
import type { StandardSchema } from "./standard-schema.ts";

afterEach(async () => {
  if (dist.isInitialized()) await dist.destroyProcessGroup();
});

/** Takes a positive `chunk`, which it doubles, and nothing else. */
const schema: StandardSchema<{ readonly chunk: number }> = {
  "~standard": {
    version: 1,
    vendor: "test",
    validate: (given) => {
      const { chunk } = given as { chunk?: unknown };
      if (typeof chunk === "number" && chunk > 0) return { value: { chunk: chunk * 2 } };
      return { issues: [{ message: "Expected a positive number", path: ["chunk"] }] };
    },
  },
};

function setup() {
  const plugin = memoryPlugin("ring", { options: () => schema });
  const other = memoryPlugin("tree", { devices: ["cuda"] });
  const lines: string[] = [];
  const keep = (level: string) => (message: string) => void lines.push(`${level} ${message}`);
  const container = dist.createContainer({ overrides: [plugin, other] });
  container.register(dist.LOGGER, {
    useValue: { debug: keep("debug"), info: keep("info"), warn: keep("warn"), error: keep("error") },
  });
  const store = new dist.HashStore();
  const options = { backend: "ring", container, store, rank: 0, worldSize: 1, timeout: "5s" } as const;
  return { plugin, other, lines, options, store };
}

function contextOf(plugin: MemoryPlugin, i: number): dist.BackendContext {
  const backend = plugin.made[i];
  if (backend === undefined) throw new Error(`backend ${i} was not made`);
  return backend.context;
}

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => "it was resolved",
    (reason: unknown) => reason,
  );
}

describe("BackendContext", () => {
  test("of the default group", async () => {
    const { plugin, options, store } = setup();
    await dist.initProcessGroup({ ...options, options: { chunk: 8 } });
    const context = contextOf(plugin, 0);
    expect(Object.keys(context).sort()).toEqual(
      [
        ...["device", "globalRanks", "groupDescription", "groupName", "logger", "options", "rank", "size", "store"],
        "clock",
        "timeoutMs",
      ].sort(),
    );
    expect(context).toMatchObject({
      rank: 0,
      size: 1,
      globalRanks: [0],
      groupName: "0",
      groupDescription: "default_pg",
      device: { type: "cpu", index: 0 },
      timeoutMs: 5_000,
      options: { chunk: 16 },
    });
    await context.store.set("port", "1");
    expect((await store.listKeys()).filter((key) => key.endsWith("0//cpu//port"))).toHaveLength(1);
  });

  test("of further groups: their own names, stores and options", async () => {
    const { plugin, options } = setup();
    await dist.initProcessGroup({ ...options, options: { chunk: 8 } });
    await dist.newGroup([0], { options: { chunk: 1 }, timeout: "9s", description: "pair" });
    await dist.newGroup([0]);
    await dist.splitGroup([[0]], { options: { chunk: 2 } });
    expect([1, 2, 3].map((i) => contextOf(plugin, i).options)).toEqual([{ chunk: 2 }, { chunk: 16 }, { chunk: 4 }]);
    expect(contextOf(plugin, 1)).toMatchObject({ groupName: "1", groupDescription: "pair", timeoutMs: 9_000 });
    await contextOf(plugin, 1).store.set("port", "1");
    expect(await contextOf(plugin, 2).store.check(["port"])).toBe(false);
  });

  test("of groups made without options: those of their parent group", async () => {
    const { plugin, other, options } = setup();
    const both = { backend: "cpu:ring,cuda:tree", options: { ring: { chunk: 8 } } };
    await dist.initProcessGroup({ ...options, ...both });
    const own = await dist.newGroup([0], { backend: "ring", options: { chunk: 3 } });
    await dist.splitGroup([[0]], { group: own });
    await dist.splitGroup([[0]]);
    await dist.newGroup([0], { backend: "ring" });
    await dist.newGroup([0], { options: {} });
    const chunks = plugin.made.map((_, i) => contextOf(plugin, i).options);
    expect(chunks).toEqual([{ chunk: 16 }, { chunk: 6 }, { chunk: 6 }, { chunk: 16 }, { chunk: 16 }, {}]);
    expect(other.made.map((_, i) => contextOf(other, i).options)).toEqual([{}, {}, {}]);
  });

  test("the logger is the container's, with a prefix", async () => {
    const { plugin, options, lines } = setup();
    await dist.initProcessGroup(options);
    await dist.newGroup([0]);
    contextOf(plugin, 0).logger.warn("slow peer");
    contextOf(plugin, 1).logger.debug("connected");
    expect(lines).toEqual(['warn ring, group "0", rank 0: slow peer', 'debug ring, group "1", rank 0: connected']);
  });
});

describe("wrong options", () => {
  test("are reported before the rendezvous", async () => {
    const { store: _, rank: __, worldSize: ___, ...options } = setup().options;
    const started = performance.now();
    const error = await rejection(
      dist.initProcessGroup({ ...options, init: "tcp://127.0.0.1:1?rank=1&world_size=2", options: { chunk: 0 } }),
    );
    expect(error).toMatchObject({
      name: "InvalidArgumentError",
      code: "INVALID_OPTION",
      message: 'backend "ring": option chunk: Expected a positive number, got 0',
    });
    expect(performance.now() - started).toBeLessThan(4_000);
    expect(dist.isInitialized()).toBe(false);
  });

  test("of newGroup and splitGroup leave the default group usable", async () => {
    const { plugin, options } = setup();
    const group = await dist.initProcessGroup(options);
    const wrong = { options: { chunk: -1 } };
    expect(await rejection(dist.newGroup([0], wrong))).toMatchObject({ code: "INVALID_OPTION" });
    expect(await rejection(dist.splitGroup([[0]], wrong))).toMatchObject({ code: "INVALID_OPTION" });
    expect(plugin.made).toHaveLength(1);
    await dist.allReduce(new Float32Array(1));
    expect(group.size).toBe(1);
  });

  test("with a backend per device, options are given by backend", async () => {
    const { plugin, other, options } = setup();
    const both = { ...options, backend: "cpu:ring,cuda:tree" };
    expect(await rejection(dist.initProcessGroup({ ...both, options: { chunk: 1 } }))).toMatchObject({
      message: expect.stringContaining("with several backends (ring, tree) options are by backend"),
    });
    await dist.initProcessGroup({ ...both, options: { ring: { chunk: 1 } } });
    expect(contextOf(plugin, 0).options).toEqual({ chunk: 2 });
    expect(contextOf(other, 0)).toMatchObject({ options: {}, device: { type: "cuda", index: 0 } });
  });
});
