import "reflect-metadata";
import { afterEach, describe, expect, test } from "bun:test";
import { type OpCall, opTypeOf } from "../../collectives/index.ts";
import * as dist from "../../distributed/index.ts";
import { DistBackendError, type DistError } from "../../errors/index.ts";
import {
  BACKEND_MIDDLEWARE,
  type Backend,
  type BackendContext,
  type BackendPlugin,
  createContainer,
  type Middleware,
  type Submit,
} from "../../registry/index.ts";
import { HashStore } from "../../store/index.ts";
import { Work } from "../../work/index.ts";
import { everyOp, MemoryBackend, memoryPlugin } from "../fixtures/memory-backend.ts";
import type { ProcessGroup } from "../process-group.ts";

afterEach(async () => {
  if (dist.isInitialized()) await dist.destroyProcessGroup().catch(() => {});
});

const boom = new TypeError("undefined is not a function");
const throwing = () => {
  throw boom;
};
const capabilities = { ...everyOp, ops: { ...everyOp.ops, barrier: [] } };

/** A group of one rank on a backend that was changed after it was created. */
async function groupOn(change: (backend: MemoryBackend) => unknown, others: Partial<BackendPlugin> = {}) {
  const made: MemoryBackend[] = [];
  const create = async (context: BackendContext) => {
    const backend = new MemoryBackend(context, capabilities);
    change(backend);
    made.push(backend);
    return backend;
  };
  const container = createContainer({ overrides: [memoryPlugin("ring", { capabilities, create, ...others })] });
  const meeting = { store: new HashStore(), rank: 0, worldSize: 1, timeout: "20s" } as const;
  const group = await dist.initProcessGroup({ backend: "ring", container, ...meeting });
  const [backend] = made;
  if (backend === undefined) throw new Error("no backend was made");
  return { group, backend };
}

/** Makes a property of an object throw when it is read. */
const spoil = (object: object, name: string) =>
  Object.defineProperty(object, name, { get: throwing, configurable: true });

const errorOf = async (call: () => unknown): Promise<unknown> => {
  try {
    return await call();
  } catch (error) {
    return error;
  }
};
const rejection = (work: Work<unknown>) => work.then(() => "it ended well").catch((error: unknown) => error);
const named = (what: string, op?: string) => ({
  name: "DistBackendError",
  code: "BACKEND_ERROR",
  message: `group "0": ${what} of backend "ring"${op === undefined ? "" : ` for ${op}`} failed: undefined is not a function`,
  cause: boom,
  details: { group: "0", backend: "ring", ...(op !== undefined && { op }) },
});

describe("an error thrown by a backend when its group is made has a code and names what was read or called", () => {
  const members = ["capabilities", "rank", "size", "whenFailed", "submit", "abort", "close"] as const;
  test.each([...members])("%s", async (member) => {
    const error = await errorOf(() => groupOn((backend) => spoil(backend, member)));
    expect(error).toMatchObject(named(member === "whenFailed" ? "whenFailed()" : member));
    expect(dist.isInitialized()).toBe(false);
  });

  test.each(["ops", "reduceOps", "anySource", "messagesInOrder"])("%s of its capabilities", async (row) => {
    const own = spoil({ ...capabilities }, row);
    const error = await errorOf(() => groupOn((backend) => Object.assign(backend, { capabilities: own })));
    expect(error).toMatchObject(named("capabilities"));
  });

  test.each(["anySource", "keepsTimeouts"])("%s of capabilities that it shares with its plugin", async (row) => {
    const own = spoil({ ...capabilities }, row) as typeof capabilities;
    const change = (backend: MemoryBackend) => Object.assign(backend, { capabilities: own });
    expect(await errorOf(() => groupOn(change, { capabilities: own }))).toMatchObject(named("capabilities"));
  });

  test("an error of this package is passed on unchanged", async () => {
    const own = new DistBackendError("the card is in use", { code: "IN_USE" });
    const change = (backend: MemoryBackend) =>
      Object.defineProperty(backend, "capabilities", {
        get() {
          throw own;
        },
      });
    expect(await errorOf(() => groupOn(change))).toBe(own);
  });
});

describe("an error thrown by a backend while its group exists has a code and names what was read or called", () => {
  const calls: readonly [string, string, (group: ProcessGroup) => unknown, op?: string][] = [
    ["submit", "submit()", (group) => rejection(group.barrier()), "barrier"],
    ["enableTiming", "enableTiming()", (group) => group.enableCollectivesTiming()],
    ["abort", "abort()", (group) => group.abort("enough")],
    ["inFlight", "inFlight", () => dist.destroyProcessGroup()],
    ["drained", "drained()", () => dist.destroyProcessGroup()],
  ];
  const ways: readonly [string, (backend: object, name: string) => unknown][] = [
    ["when it is called", (backend, name) => Object.assign(backend, { [name]: throwing })],
    ["when it is read", spoil],
  ];
  for (const [way, change] of ways) {
    for (const [name, what, call, op] of calls) {
      if (name === "inFlight" && change !== spoil) continue;
      test(`${name}, ${way}`, async () => {
        const { group, backend } = await groupOn(() => {});
        change(backend, name);
        expect(await errorOf(() => call(group))).toMatchObject(named(what, op));
      });
    }
  }

  test("refuse(), for an op after the end of the group", async () => {
    const { group, backend } = await groupOn((each) => Object.assign(each, { refuse: throwing }));
    group.abort("enough");
    expect(backend.state).toBe("FAILED");
    expect(await rejection(group.barrier())).toMatchObject(named("refuse()", "barrier"));
  });

  test("on one device: the others are still called", async () => {
    const timed: string[] = [];
    const plugin = (name: string, device: "cpu" | "cuda") => {
      const create = async (context: BackendContext) =>
        Object.assign(new MemoryBackend(context, capabilities), {
          enableTiming() {
            timed.push(name);
            throw boom;
          },
        });
      return memoryPlugin(name, { capabilities, devices: [device], create });
    };
    const container = createContainer({ overrides: [plugin("ring", "cpu"), plugin("card", "cuda")] });
    const meeting = { store: new HashStore(), rank: 0, worldSize: 1 };
    const group = await dist.initProcessGroup({ backend: "cpu:ring,cuda:card", container, ...meeting });
    expect(await errorOf(() => group.enableCollectivesTiming())).toMatchObject(named("enableTiming()"));
    expect(timed).toEqual(["ring", "card"]);
  });

  test("the error of an async method is a warning", async () => {
    const { group } = await groupOn((backend) => Object.assign(backend, { enableTiming: async () => throwing() }));
    const { promise, resolve } = Promise.withResolvers<Error>();
    process.once("warning", resolve);
    group.enableCollectivesTiming();
    expect((await promise).message).toBe(
      'group "0": enableTiming() of backend "ring" failed: undefined is not a function',
    );
  });
});

describe("a backend whose state cannot be read", () => {
  test.each<[string, (backend: MemoryBackend) => unknown, string]>([
    [
      "since it throws",
      (backend) => spoil(backend, "state"),
      'group "0": state of backend "ring" failed: undefined is not a function',
    ],
    [
      "since it is not a state",
      (backend) => Object.defineProperty(backend, "state", { value: "BROKEN" }),
      'group "0": state of backend "ring" is not one of OPEN, FAILED, CLOSED, got "BROKEN"',
    ],
  ])("%s: the group has failed, and ops say why", async (_, change, message) => {
    const { group, backend } = await groupOn(() => {});
    backend.prompt = false;
    const held = group.barrier();
    change(backend);
    expect(group.state).toBe("FAILED");
    expect(await rejection(held)).toMatchObject({ code: "ABORTED" });
    expect(await rejection(group.barrier())).toMatchObject({
      code: "GROUP_FAILED",
      cause: { code: "BACKEND_ERROR", message },
    });
    await dist.destroyProcessGroup();
    expect(backend.closed).toBe(1);
  });

  test("while an op ends: what waits for it is still notified", async () => {
    const { group, backend } = await groupOn(() => {});
    backend.prompt = false;
    const work = group.barrier();
    spoil(backend, "state");
    backend.works[0]?.settle(new DistBackendError("the ring broke", { code: "BROKEN" }));
    expect(await rejection(work)).toMatchObject({ code: "BROKEN" });
    expect([group.inFlight, group.state]).toEqual([0, "FAILED"]);
  });
});

describe("a backend whose state goes back to OPEN", () => {
  test.each(["FAILED", "CLOSED"])("from %s: the group has failed for good, and ops say why", async (before) => {
    let state: string = before;
    const { group, backend } = await groupOn(() => {});
    Object.defineProperty(backend, "state", { get: () => state });
    expect(group.state).toBe(before as "FAILED");
    state = "OPEN";
    expect([group.state, group.state]).toEqual(["FAILED", "FAILED"]);
    const error = await rejection(group.barrier());
    expect(error).toMatchObject({ code: "GROUP_FAILED" });
    expect(error).toHaveProperty("cause.message", `group "0": state of backend "ring" is OPEN after it was ${before}`);
    expect(backend.calls).toEqual([]);
  });
});

describe("a backend for a rank other than that of its context", () => {
  const places = [
    ["rank", 5],
    ["rank", Number.NaN],
    ["size", 3],
  ] as const;
  const expected = { rank: 0, size: 1 };
  const messageOf = (field: "rank" | "size", value: number) =>
    `create() of backend "ring" must resolve to a backend whose ${field} is that of the context, ${expected[field]}, got ${value}`;

  test.each(places)("by its %s, %p, is refused and closed", async (field, value) => {
    const made: MemoryBackend[] = [];
    const error = (await errorOf(() =>
      groupOn((backend) => {
        made.push(Object.assign(backend, { [field]: value }));
      }),
    )) as DistError;
    expect([error.name, error.code, error.message]).toEqual([
      "DistBackendError",
      "BACKEND_ERROR",
      messageOf(field, value),
    ]);
    expect([made[0]?.aborted, made[0]?.closed, dist.isInitialized()]).toEqual([
      "the group could not be made",
      1,
      false,
    ]);
  });

  test("as a helper group of a middleware, too", async () => {
    let count = 0;
    const made: MemoryBackend[] = [];
    const create = async (context: BackendContext) => {
      const backend = new MemoryBackend(context, capabilities);
      made.push(backend);
      return count++ === 0 ? backend : Object.assign(backend, { size: 9 });
    };
    const middleware: Middleware = {
      name: "helped",
      create: async (context) => {
        await context.helperGroup();
        return (next) => next;
      },
    };
    const container = createContainer({ overrides: [memoryPlugin("ring", { capabilities, create })] });
    container.register(BACKEND_MIDDLEWARE, { useValue: middleware });
    const meeting = { store: new HashStore(), rank: 0, worldSize: 1 };
    const error = await errorOf(() => dist.initProcessGroup({ backend: "ring", container, ...meeting }));
    expect(error).toHaveProperty("message", messageOf("size", 9));
    expect(made.map(({ closed }) => closed)).toEqual([1, 1]);
  });
});

test("members that a backend in plain JavaScript lacks default to those of its base class", async () => {
  const submit = (calls: readonly OpCall[]) =>
    calls.map((call) => Work.completed(undefined, { opType: opTypeOf(call) }));
  const create = async () => ({ capabilities, submit, abort() {}, close() {} }) as unknown as Backend;
  const container = createContainer({ overrides: [memoryPlugin("ring", { capabilities, create })] });
  const meeting = { store: new HashStore(), rank: 0, worldSize: 1 };
  const group = await dist.initProcessGroup({ backend: "ring", container, ...meeting });
  group.enableCollectivesTiming();
  await group.barrier();
  expect(group.state).toBe("OPEN");
  await dist.destroyProcessGroup();
});

describe("an error thrown by a middleware when a group is made has a code and names the middleware", () => {
  const made = (middleware: unknown) => {
    const container = createContainer({ overrides: [memoryPlugin("ring", { capabilities })] });
    container.register(BACKEND_MIDDLEWARE, { useValue: middleware as Middleware });
    const meeting = { store: new HashStore(), rank: 0, worldSize: 1 };
    return errorOf(() => dist.initProcessGroup({ backend: "ring", container, ...meeting }));
  };

  test.each(["name", "create"])("%s, when it is read", async (member) => {
    const error = await made(spoil({ name: "metrics", create: () => (next: Submit) => next }, member));
    expect(error).toMatchObject({
      name: "InvalidArgumentError",
      message: `BACKEND_MIDDLEWARE: reading name and create() of a middleware has thrown ${boom.message}`,
      cause: boom,
    });
  });

  test("the function that create() returns", async () => {
    expect(await made({ name: "metrics", create: () => throwing })).toMatchObject({
      name: "DistBackendError",
      code: "CREATE_FAILED",
      message: `middleware "metrics" could not be made for group "0": what create() returned threw ${boom.message}`,
      cause: boom,
    });
  });

  test("the same function, if it is async", async () => {
    expect(await made({ name: "metrics", create: () => async () => throwing() })).toMatchObject({
      code: "INVALID_MIDDLEWARE",
      message: 'middleware "metrics" must return a submit function, got Promise',
    });
  });
});

describe("an unreadable call from a middleware", () => {
  const passing: Middleware = { name: "passing", create: () => (next) => (calls) => next(calls) };
  // What it adds itself is checked only when the calls reach the next middleware.
  test.each(["op", "root", "outputs", "timeoutMs", "added"])(
    "names the middleware that has made it: %s",
    async (field) => {
      let isBad = true;
      const spoiling: Middleware = {
        name: "spoiling",
        create: () => (next) => (calls) => {
          const get = { enumerable: true, get: throwing };
          return next(isBad ? calls.map((call) => Object.defineProperty({ ...call }, field, get)) : calls);
        },
      };
      const container = createContainer({ overrides: [memoryPlugin("ring", { capabilities })] });
      for (const each of [spoiling, passing]) container.register(BACKEND_MIDDLEWARE, { useValue: each });
      const meeting = { store: new HashStore(), rank: 0, worldSize: 1 };
      const group = await dist.initProcessGroup({ backend: "ring", container, ...meeting });
      const error = (await rejection(group.barrier())) as DistError;
      expect([error.code, error.cause]).toEqual(["MIDDLEWARE_ERROR", boom]);
      expect(error.message).toMatch(/^middleware "spoiling": (its submit function|a call that it submitted) threw/);
      isBad = false;
      await group.barrier();
    },
  );
});
