import { afterEach, describe, expect, jest, test } from "bun:test";
import fake from "../backends/fake/plugin.ts";
import type { DistError } from "../errors/index.ts";
import {
  BACKEND_MIDDLEWARE,
  type BackendContext,
  type BackendPlugin,
  BackendType,
  CLOCK,
  createContainer,
  type GroupContext,
  MethodBackend,
  type Middleware,
  registryOf,
  systemClock,
} from "../registry/index.ts";
import { HashStore } from "../store/index.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import * as dist from "./index.ts";

afterEach(async () => {
  if (dist.isInitialized()) await dist.destroyProcessGroup().catch(() => {});
});

const forever = <T>(): Promise<T> => new Promise(() => {});
const capabilities = { ops: { barrier: [] }, reduceOps: {} };

class Quiet extends MethodBackend {
  override readonly name = "slow";
  override readonly capabilities = capabilities;
  readonly ends: string[] = [];

  override barrier(): void {}

  override abort(reason: string): void {
    this.ends.push(`abort: ${reason}`);
    super.abort(reason);
  }

  protected override onClose(): void {
    this.ends.push("close");
  }
}

const plugin = (over: Partial<BackendPlugin>): BackendPlugin => ({
  name: "slow",
  type: BackendType.CUSTOM,
  sdk: 2,
  devices: ["cpu"],
  bootstrap: "store",
  capabilities,
  probe: async () => ({ available: true, version: "1" }),
  create: async ({ rank, size, clock }: BackendContext) => new Quiet(rank, size, clock),
  ...over,
});

/** The error with which `initProcessGroup` rejects under a time-out of 50 ms, and how long that took. */
async function failureOf(
  over: Partial<BackendPlugin>,
  middleware: readonly Middleware[] = [],
): Promise<{ readonly error: DistError; readonly tookMs: number }> {
  const container = createContainer({ overrides: [plugin(over)] });
  for (const each of middleware) container.register(BACKEND_MIDDLEWARE, { useValue: each });
  const place = { store: new HashStore(), rank: 0, worldSize: 1, container, timeout: 50 };
  const began = performance.now();
  const error: unknown = await dist
    .initProcessGroup({ backend: "slow", ...place, options: over.options === undefined ? {} : { some: 1 } })
    .catch((reason: unknown) => reason);
  return { error: error as DistError, tookMs: performance.now() - began };
}

describe("code that never settles while a group is made", () => {
  const stuck: Middleware = { name: "stuck", create: forever };
  const helping: Middleware = {
    name: "helping",
    async create(context) {
      await context.helperGroup();
      return (next) => next;
    },
  };
  const onlyFirst = async ({ groupName, rank, size }: BackendContext) =>
    groupName === "0" ? new Quiet(rank, size) : await forever<Quiet>();
  const cases: readonly [string, Partial<BackendPlugin>, readonly Middleware[], string][] = [
    ["probe()", { probe: forever }, [], 'probe() of backend "slow"'],
    ["options()", { options: forever }, [], 'options() of backend "slow", or its schema,'],
    [
      "a schema",
      { options: () => ({ "~standard": { version: 1, vendor: "slow", validate: forever } }) as never },
      [],
      "or its schema,",
    ],
    ["launched()", { launched: forever, bootstrap: "self" }, [], 'launched() of backend "slow"'],
    ["create()", { create: forever }, [], 'create() of backend "slow"'],
    ["create() of a middleware", {}, [stuck], 'create() of middleware "stuck"'],
  ];
  for (const [what, over, middleware, named] of cases) {
    test(`${what}: named, with the group and the time-out, after the time-out`, async () => {
      const { error, tookMs } = await failureOf(over, middleware);
      expect([error.name, error.code, error.details.group, error.details.timeoutMs]).toEqual([
        "DistTimeoutError",
        "CONNECT_TIMEOUT",
        "0",
        50,
      ]);
      expect(error.message).toContain(`group "0": `);
      expect(error.message).toContain(`${named} has neither resolved nor rejected within its limit of 50 ms`);
      expect(tookMs).toBeGreaterThan(what.startsWith("create()") ? 3_000 : 1_000);
      expect(tookMs).toBeLessThan(10_000);
      expect(dist.isInitialized()).toBe(false);
    });
  }

  test("create() for a helper group of a middleware: named, with the helper group", async () => {
    const { error } = await failureOf({ create: onlyFirst }, [helping]);
    expect(error.message).toStartWith(`group "0/helping/0": create() of backend "slow" has neither`);
    expect(error).toMatchObject({ code: "CONNECT_TIMEOUT", details: { backend: "slow" } });
  });

  test("its own time-out comes first", async () => {
    const own = new Error("the card did not answer");
    const create = async ({ clock, timeoutMs }: BackendContext) => {
      await new Promise<void>((resolve) => clock.schedule(timeoutMs, resolve));
      throw own;
    };
    const { error } = await failureOf({ create });
    expect([error.code, error.cause]).toEqual(["CREATE_FAILED", own]);
  });

  test("its own time-out comes first even if the process was stopped for longer", async () => {
    const own = new Error("the card did not answer");
    const create = async () => {
      await Bun.sleep(1);
      Bun.sleepSync(1_200);
      await Bun.sleep(50);
      throw own;
    };
    const { error } = await failureOf({ create });
    expect([error.code, error.cause]).toEqual(["CREATE_FAILED", own]);
  });

  test("newGroup() uses the time-out passed to it", async () => {
    const create = ({ groupName, rank, size }: BackendContext) =>
      groupName === "0" ? Promise.resolve(new Quiet(rank, size)) : forever<Quiet>();
    const container = createContainer({ overrides: [plugin({ create })] });
    const place = { store: new HashStore(), rank: 0, worldSize: 1, container };
    await dist.initProcessGroup({ backend: "slow", ...place, timeout: "1h" });
    const error = await dist.newGroup([0], { timeout: 20 }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: "CONNECT_TIMEOUT", details: { group: "1", backend: "slow", timeoutMs: 20 } });
    await dist.barrier();
  });

  test("by the clock of the container", async () => {
    const clock = new ManualClock();
    const called = Promise.withResolvers<void>();
    const create = () => {
      called.resolve();
      return forever<Quiet>();
    };
    const container = createContainer({ overrides: [plugin({ create })] });
    container.register(CLOCK, { useValue: clock });
    const place = { store: new HashStore(), rank: 0, worldSize: 1, container, timeout: "1h" };
    const failed = dist.initProcessGroup({ backend: "slow", ...place }).catch((reason: unknown) => reason);
    await called.promise;
    clock.advance(3_600_000);
    expect(await Promise.race([failed, Bun.sleep(20)])).toBeUndefined();
    // In it, ranks may agree on who is missing.
    clock.advance(3_000);
    expect(await failed).toMatchObject({ code: "CONNECT_TIMEOUT", details: { timeoutMs: 3_600_000 } });
    expect(clock.pending).toBe(0);
  });

  test("without a time-out it may take any time", async () => {
    const clock = new ManualClock();
    const container = createContainer({
      overrides: [plugin({ create: ({ rank, size }) => Bun.sleep(30).then(() => new Quiet(rank, size)) })],
    });
    container.register(CLOCK, { useValue: clock });
    const place = { store: new HashStore(), rank: 0, worldSize: 1, container, timeout: Number.POSITIVE_INFINITY };
    await dist.initProcessGroup({ backend: "slow", ...place });
    expect(clock.pending).toBe(0);
  });
});

describe("a late result", () => {
  test("is aborted and closed if it is a backend, even one that fails to", async () => {
    const backend = new Quiet(0, 1);
    const coming = Promise.withResolvers<Quiet>();
    const { error } = await failureOf({ create: () => coming.promise });
    expect(error.code).toBe("CONNECT_TIMEOUT");
    coming.resolve(backend);
    await Bun.sleep(1);
    expect(backend.ends).toEqual(["abort: the group was abandoned before its backend was created", "close"]);

    const warnings: string[] = [];
    const listener = (warning: Error) => warnings.push(warning.message);
    process.on("warning", listener);
    const broken = Promise.withResolvers<Quiet>();
    await failureOf({ create: () => broken.promise });
    broken.resolve({
      submit() {},
      abort: () => Promise.reject("no"),
      close: () => {
        throw new Error("stuck");
      },
    } as never);
    await Bun.sleep(10);
    process.off("warning", listener);
    expect(warnings).toEqual([
      'group "0": abort() of backend "slow" failed: no',
      'group "0": close() of backend "slow" failed: stuck',
    ]);
  });

  test("may be a rejection, or not a backend at all", async () => {
    for (const settle of ["resolve", "reject"] as const) {
      const coming = Promise.withResolvers<never>();
      const { error } = await failureOf({ create: () => coming.promise });
      // An unhandled rejection would fail this test.
      coming[settle](undefined as never);
      await Bun.sleep(1);
      expect(error.code).toBe("CONNECT_TIMEOUT");
    }
  });

  test("of a middleware: what it then registers and makes is ended immediately", async () => {
    const late = Promise.withResolvers<void>();
    const made: Quiet[] = [];
    const create = async ({ rank, size }: BackendContext) => {
      const backend = new Quiet(rank, size);
      made.push(backend);
      return backend;
    };
    const notified: string[] = [];
    const slow: Middleware = {
      name: "late",
      async create(context: GroupContext) {
        await late.promise;
        context.onAbort(() => notified.push("abort"));
        context.onClose(() => void notified.push("close"));
        notified.push(
          await context.helperGroup().then(
            () => "helped",
            (reason: DistError) => reason.code,
          ),
        );
        return (next) => next;
      },
    };
    const { error } = await failureOf({ create }, [slow]);
    expect(error.message).toContain('middleware "late"');
    late.resolve();
    await Bun.sleep(5);
    expect(notified).toEqual(["abort", "close", "GROUP_FAILED"]);
    expect(made.map(({ ends }) => ends)).toEqual([["close"]]);
  });
});

describe("a backend whose close() hangs", () => {
  test("does not hold back the failure of a creation", async () => {
    const create = async ({ rank, size }: BackendContext) => {
      const backend = new Quiet(rank, size);
      backend.close = forever;
      return backend;
    };
    const refusing: Middleware = { name: "refusing", create: () => Promise.reject(new Error("not today")) };
    jest.useFakeTimers();
    try {
      const failed = failureOf({ create }, [refusing]);
      for (let i = 0; i < 100; i++) await Promise.resolve();
      jest.advanceTimersByTime(10_000);
      const { error } = await failed;
      expect(error).toMatchObject({ code: "CREATE_FAILED", message: expect.stringContaining("not today") });
    } finally {
      jest.useRealTimers();
    }
  });
});

describe("the registry", () => {
  const limit = { limitMs: 20, clock: systemClock };

  test("reports a probe() that does not settle", async () => {
    const registry = registryOf(createContainer({ overrides: [plugin({ probe: forever })] }));
    expect(await registry.probe("slow", limit)).toEqual({
      available: false,
      reason: "probe() of the plugin had no answer within 20 ms",
      remedy: 'look at the probe() of backend "slow"',
    });
    const error: unknown = await registry.require("slow", limit).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: "CONNECT_TIMEOUT", details: { backend: "slow", timeoutMs: 20 } });
  });

  test("reports a module that does not load", async () => {
    const { BACKEND_PLUGIN } = await import("../registry/index.ts");
    const container = createContainer();
    container.register(BACKEND_PLUGIN, { useValue: { name: "lazy", load: forever } });
    const error: unknown = await registryOf(container)
      .get("lazy", limit)
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      code: "CONNECT_TIMEOUT",
      message: expect.stringContaining('the module of backend "lazy"'),
    });
  });

  test("accepts what settles in time", async () => {
    const registry = registryOf(createContainer());
    expect(await registry.require("fake", limit)).toBe(fake);
  });
});
