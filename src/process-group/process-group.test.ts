import "reflect-metadata";
import { afterAll, afterEach, describe, expect, jest, test } from "bun:test";
import { type OpCall, OpType, opTypeOf, ReduceOp } from "../collectives/index.ts";
import * as dist from "../distributed/index.ts";
import { type DistError, DistNetworkError, type ErrorDetails } from "../errors/index.ts";
import {
  BACKEND_MIDDLEWARE,
  Backend,
  type BackendContext,
  BackendType,
  type Capabilities,
  CLOCK,
  type Clock,
  createContainer,
  MethodBackend,
  registerBackend,
} from "../registry/index.ts";
import { HashStore } from "../store/index.ts";
import { TENSOR_PROTOCOL, type TensorLike, tensor } from "../tensor/index.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { Work } from "../work/index.ts";
import { type MemoryBackend, memoryPlugin } from "./fixtures/memory-backend.ts";
import type { ProcessGroup } from "./process-group.ts";

const plugin = memoryPlugin("memory", { options: () => (options: unknown) => options as object });
createContainer({ install: true });
registerBackend(plugin);
afterAll(() => void createContainer({ install: true }));

afterEach(async () => {
  if (dist.isInitialized()) await dist.destroyProcessGroup().catch(() => {});
});

async function start(options: dist.InitOptions = {}): Promise<{ group: ProcessGroup; backend: MemoryBackend }> {
  const group = await dist.initProcessGroup({
    store: new HashStore(),
    rank: 0,
    worldSize: 1,
    backend: "memory",
    timeout: "7s",
    ...options,
  });
  const backend = plugin.made.at(-1);
  if (backend === undefined) throw new Error("the plugin made no backend");
  return { group, backend };
}

const floats = () => new Float32Array([1, 2]);
const gone = () => new DistNetworkError("rank 3 is gone", { code: "PEER_LOST" });

/** The error of a failed Work, as name, code and details. */
function refusal(work: Work<unknown>): { name: string; code: string; message: string; details: ErrorDetails } {
  const error = work.exception();
  if (error === undefined) throw new Error("it was not refused");
  return { name: error.name, code: error.code, message: error.message, details: error.details };
}

async function warnings(act: () => unknown): Promise<Error[]> {
  const seen: Error[] = [];
  const note = (warning: Error) => seen.push(warning);
  process.on("warning", note);
  await act();
  await Bun.sleep(20);
  process.off("warning", note);
  return seen;
}

describe("a user's backend", () => {
  test("is created with what it needs", async () => {
    const { group, backend } = await start({ options: { color: "red" } });
    const { context } = backend;
    expect(context).toMatchObject({
      rank: 0,
      size: 1,
      globalRanks: [0],
      groupName: "0",
      device: { type: "cpu", index: 0 },
      timeoutMs: 7_000,
      options: { color: "red" },
    });
    await context.store.set("k", "v");
    expect(await context.store.get("k")).toEqual(new TextEncoder().encode("v"));
    expect([group.rank, group.size, group.backendName(), group.backendType()]).toEqual([
      0,
      1,
      "memory",
      BackendType.CUSTOM,
    ]);
    expect(group.backend()).toBe(backend);
    expect(group.deviceTypes).toEqual(["cpu"]);
    expect(`${group}`).toBe('<ProcessGroup "0" rank 0/1 OPEN>');
  });

  test("gets calls with tensors and terms", async () => {
    const { group, backend } = await start();
    const t = floats();
    expect(await dist.allReduce(t, { op: ReduceOp.MAX, timeout: 500 })).toBe(t);
    const list = [floats(), floats()];
    expect(await group.allReduce(list)).toEqual(list);
    const flags = tensor([true, false], { dtype: "bool" });
    expect(await dist.broadcast(flags, { src: 0, timeout: Number.POSITIVE_INFINITY })).toBe(flags);

    const [reduce, coalesced, broadcast] = backend.calls;
    expect(reduce).toMatchObject({ op: "allReduce", reduceOp: ReduceOp.MAX, timeoutMs: 500, inputs: [] });
    expect(reduce?.outputs).toMatchObject([{ source: t, data: t, dtype: "float32", length: 2 }]);
    expect(coalesced).toMatchObject({ op: "allReduceCoalesced", reduceOp: ReduceOp.SUM, timeoutMs: 7_000 });
    expect(coalesced?.outputs).toHaveLength(2);
    expect(broadcast).toMatchObject({ op: "broadcast", root: 0, timeoutMs: Number.POSITIVE_INFINITY });
    expect(broadcast?.outputs).toMatchObject([{ source: flags, data: flags.data, dtype: "bool", length: 2 }]);
  });

  test("its error is passed on unchanged", async () => {
    const { group, backend } = await start();
    const error = gone();
    backend.failures.push(error);
    expect(await group.allReduce(floats()).catch((reason: unknown) => reason)).toBe(error);
  });

  test("premulSum reaches it if the table has it", async () => {
    const { group, backend } = await start();
    await group.allReduce(floats(), { op: ReduceOp.premulSum(0.5) });
    expect(backend.calls[0]?.reduceOp?.factor).toBe(0.5);
  });
});

describe("nothing invalid reaches the backend", () => {
  const cuda: TensorLike = {
    [TENSOR_PROTOCOL]: () => ({ ptr: 8, byteLength: 4, dtype: "float32", device: "cuda:1" }),
  };
  const bad: [string, (group: ProcessGroup) => Work<unknown>, string, string][] = [
    ["no tensor", (g) => g.allReduce(5 as unknown as TensorLike), "InvalidArgumentError", "must be a TypedArray"],
    ["an empty list", (g) => g.allReduce([]), "InvalidArgumentError", "empty list"],
    ["mixed dtypes", (g) => g.allReduce([floats(), new Int8Array(1)]), "InvalidArgumentError", "[1] is int8"],
    ["an invalid reduce op", (g) => g.allReduce(floats(), { op: 0 as never }), "InvalidArgumentError", "constants"],
    ["a time-out of 0", (g) => g.allReduce(floats(), { timeout: 0 }), "InvalidArgumentError", "timeout must be"],
    ["a root elsewhere", (g) => g.broadcast(floats(), { src: 1 }), "InvalidArgumentError", "global rank 1 is not in"],
    ["no root", (g) => g.broadcast(floats(), {}), "InvalidArgumentError", "exactly one of src"],
    ["a device without backend", (g) => g.allReduce(cuda), "InvalidArgumentError", "no backend for cuda tensors"],
    ["null as options", (g) => g.allReduce(floats(), null as never), "InvalidArgumentError", "options must be"],
    ["an op that is not claimed", (g) => g.barrier(), "UnsupportedOperationError", "does not implement barrier"],
    ["a dtype that is not claimed", (g) => g.allReduce(new Int8Array(1)), "UnsupportedOperationError", "int8 tensors"],
    ["a dtype of another op", (g) => g.broadcast(new Int32Array(1), { src: 0 }), "UnsupportedOperationError", "int32"],
    ["a list where one is claimed", (g) => g.allReduce([new Int32Array(1)]), "UnsupportedOperationError", "int32"],
    [
      "a reduce op that is not claimed",
      (g) => g.allReduce(floats(), { op: ReduceOp.MIN }),
      "UnsupportedOperationError",
      "ReduceOp.MIN with float32",
    ],
    [
      "a dtype without reduce ops",
      (g) => g.allReduce(tensor([1], { dtype: "bfloat16" })),
      "UnsupportedOperationError",
      "ReduceOp.SUM with bfloat16",
    ],
  ];

  test.each(bad)("%s", async (_, call, name, message) => {
    const { group, backend } = await start();
    const work = call(group);
    expect(refusal(work)).toMatchObject({ name });
    expect(refusal(work).message).toContain(message);
    expect(work.seq).toBe(-1);
    expect(backend.calls).toEqual([]);
    await group.allReduce(floats());
    expect(backend.calls).toHaveLength(1);
  });

  test("a tensor whose protocol throws rejects with that error", async () => {
    const { group, backend } = await start();
    const freed: TensorLike = {
      [TENSOR_PROTOCOL]: () => {
        throw new RangeError("freed before");
      },
    };
    const error = await group.allReduce(freed).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ message: "freed before" });
    expect(backend.calls).toEqual([]);
  });

  test("the value of a plugin's Work is not the result of an op without a result", async () => {
    const capabilities: Capabilities = { ops: { barrier: [] }, reduceOps: {} };
    class Chatty extends Backend {
      override readonly name = "chatty";
      override readonly capabilities = capabilities;
      override submit(calls: readonly OpCall[]): readonly Work<void>[] {
        return calls.map((call) => Work.completed("a remark" as never, { opType: opTypeOf(call) }));
      }
    }
    const create = ({ rank, size }: BackendContext) => Promise.resolve(new Chatty(rank, size));
    const container = createContainer({ overrides: [memoryPlugin("chatty", { capabilities, create })] });
    const place = { store: new HashStore(), rank: 0, worldSize: 1 };
    const group = await dist.initProcessGroup({ ...place, backend: "chatty", container });
    expect(await group.barrier()).toBeUndefined();
    expect(await group.coalescing(() => void group.barrier())).toBeUndefined();
    await group.close();
  });

  test("ops that a backend claims but lacks reject, too", async () => {
    const capabilities: Capabilities = {
      ops: { allReduce: ["float32"], allReduceCoalesced: ["float32"], broadcast: ["float32"], barrier: [] },
      reduceOps: { float32: ["SUM"] },
    };
    class Empty extends MethodBackend {
      override readonly name = "empty";
      override readonly capabilities = capabilities;
    }
    const empty = memoryPlugin("empty", {
      capabilities,
      create: ({ rank, size }) => Promise.resolve(new Empty(rank, size)),
    });
    const container = createContainer({ overrides: [empty] });
    const group = await dist.initProcessGroup({
      store: new HashStore(),
      rank: 0,
      worldSize: 1,
      backend: "empty",
      container,
    });
    const works = [
      group.allReduce(floats()),
      group.allReduce([floats()]),
      group.broadcast(floats(), { src: 0 }),
      group.barrier(),
    ];
    expect(works.map((work) => refusal(work).message)).toEqual(
      ["allReduce", "allReduceCoalesced", "broadcast", "barrier"].map(
        (op) => `backend "empty" does not implement ${op}`,
      ),
    );
    expect(works.map((work) => refusal(work).name)).toEqual(Array(4).fill("UnsupportedOperationError"));
    expect(works.map((work) => work.opType)).toEqual([
      OpType.ALLREDUCE,
      OpType.ALLREDUCE_COALESCED,
      OpType.BROADCAST,
      OpType.BARRIER,
    ]);
    await group.close();
  });
});

describe("a group that this rank is not in", () => {
  test("ops resolve without effect, and warn once", async () => {
    const { backend } = await start();
    const t = floats();
    const seen = await warnings(async () => {
      expect(await dist.allReduce(t, { group: null })).toBe(t);
      expect(await dist.broadcast(t, { group: null, src: 99 })).toBe(t);
      expect(dist.barrier({ group: null }).wait()).toBe(true);
      expect(dist.allReduce(t, { group: null }).isSuccess()).toBe(true);
    });
    expect(seen.map(({ message }) => message)).toEqual([
      "allReduce has no effect: this rank does not belong to the given group",
    ]);
    expect(seen[0]?.name).toBe("DistWarning");
    expect(backend.calls).toEqual([]);
    expect([...t]).toEqual([1, 2]);
  });
});

describe("the end of a group", () => {
  test("destroy waits for ops in flight", async () => {
    const { group, backend } = await start();
    backend.prompt = false;
    const work = group.allReduce(floats());
    let ended = false;
    const destroyed = dist.destroyProcessGroup().then(() => {
      ended = true;
    });
    await Bun.sleep(20);
    expect([ended, backend.closed]).toEqual([false, 0]);
    backend.works[0]?.settle();
    await destroyed;
    expect([ended, backend.closed, work.isSuccess(), group.state]).toEqual([true, 1, true, "CLOSED"]);
    expect(dist.isInitialized()).toBe(false);
  });

  test("destroy gives up after the group's time-out", async () => {
    const { group, backend } = await start({ timeout: 50 });
    backend.prompt = false;
    const work = group.allReduce(floats());
    const error = await dist.destroyProcessGroup().catch((reason: DistError) => reason);
    expect(error).toMatchObject({ name: "DistTimeoutError", code: "DRAIN_TIMEOUT" });
    const { message, details } = error as DistError;
    const site = String.raw`\S*process-group\.test\.ts:\d+:\d+`;
    expect(message).toMatch(
      new RegExp(`group "0" still had ops in flight after 50 ms; they were aborted: allReduce #1, called at ${site}$`),
    );
    expect(details).toMatchObject({ op: "allReduce", callSite: expect.stringMatching(new RegExp(`^${site}$`)) });
    expect(work.exception()?.code).toBe("ABORTED");
    expect([backend.closed, dist.isInitialized()]).toEqual([1, false]);
  });

  test("a backend that does not close is abandoned, in real time whatever the clock of the container", async () => {
    const container = createContainer({ overrides: [plugin] });
    const standing: Clock = { now: () => 0, schedule: () => ({ [Symbol.dispose]() {} }) };
    container.register(CLOCK, { useValue: standing });
    const { backend } = await start({ container });
    backend.close = () => new Promise(() => {});
    jest.useFakeTimers();
    try {
      const destroyed = dist.destroyProcessGroup().catch((reason: DistError) => reason);
      for (let i = 0; i < 20; i++) await Promise.resolve();
      jest.advanceTimersByTime(10_000);
      const error = await destroyed;
      expect(error).toMatchObject({
        name: "DistTimeoutError",
        code: "CLOSE_TIMEOUT",
        details: { backend: backend.name },
      });
    } finally {
      jest.useRealTimers();
    }
    expect(dist.isInitialized()).toBe(false);
  });

  test.each([
    ["that is idle is drained, then closed", () => {}, ["drained", "close"]],
    ["that has failed is only closed", (group: ProcessGroup) => group.abort("enough"), ["close"]],
  ] as const)("a group %s", async (_, before, expected) => {
    const { group, backend } = await start();
    const called: string[] = [];
    const close = backend.close.bind(backend);
    backend.drained = async () => void called.push("drained");
    backend.close = () => {
      called.push("close");
      return close();
    };
    before(group);
    await dist.destroyProcessGroup();
    expect(called).toEqual([...expected]);
  });

  test("a drained() that hangs with nothing in flight is abandoned, and the group is closed", async () => {
    const { group, backend } = await start({ timeout: "1min" });
    backend.prompt = false;
    const work = group.allReduce(floats());
    backend.drained = () => new Promise(() => {});
    jest.useFakeTimers();
    try {
      const destroyed = dist.destroyProcessGroup().catch((reason: DistError) => reason);
      backend.works[0]?.settle();
      for (let i = 0; i < 50; i++) await Promise.resolve();
      jest.advanceTimersByTime(10_000);
      expect(await destroyed).toMatchObject({
        code: "DRAIN_TIMEOUT",
        details: { backend: backend.name, timeoutMs: 10_000 },
      });
    } finally {
      jest.useRealTimers();
    }
    expect([work.isSuccess(), group.state, backend.closed, dist.isInitialized()]).toEqual([true, "CLOSED", 1, false]);
  });

  describe("a drained() that hangs", () => {
    const turns = async () => {
      for (let i = 0; i < 50; i++) await Promise.resolve();
    };
    /** A group whose backend reports what it has in flight, and the end of the group. */
    async function ending(timeout: number, inFlight: number) {
      const clock = new ManualClock();
      const container = createContainer({ overrides: [plugin] });
      container.register(CLOCK, { useValue: clock });
      const { group, backend } = await start({ container, timeout });
      const says = { inFlight };
      Object.defineProperty(backend, "inFlight", { get: () => says.inFlight });
      backend.drained = () => new Promise(() => {});
      let error: DistError | undefined;
      const end = async () => {
        await dist.destroyProcessGroup().catch((reason: DistError) => {
          error = reason;
        });
      };
      return { group, backend, clock, says, end, error: () => error };
    }

    test.each([
      ["less than that", 50],
      ["more", 60_000],
    ])("with nothing in flight is abandoned after 10 s, even if the group's time-out is %s", async (_, timeout) => {
      const { group, backend, clock, end, error } = await ending(timeout, 0);
      jest.useFakeTimers();
      try {
        const destroyed = end();
        await turns();
        clock.advance(timeout);
        jest.advanceTimersByTime(9_900);
        await turns();
        expect(error()).toBeUndefined();
        jest.advanceTimersByTime(100);
        await destroyed;
      } finally {
        jest.useRealTimers();
      }
      expect(error()).toMatchObject({
        name: "DistTimeoutError",
        code: "DRAIN_TIMEOUT",
        details: { group: "0", backend: "memory", timeoutMs: 10_000 },
      });
      expect(error()?.message).toBe(
        'group "0": backend "memory" has nothing in flight, but its drained() did not resolve within 10000 ms',
      );
      expect([group.state, backend.closed]).toEqual(["CLOSED", 1]);
    });

    test("with something in flight is abandoned after the group's time-out", async () => {
      const { group, backend, clock, end, error } = await ending(60_000, 2);
      const destroyed = end();
      await turns();
      clock.advance(59_000);
      await turns();
      expect(error()).toBeUndefined();
      clock.advance(1_000);
      await destroyed;
      expect(error()).toMatchObject({ code: "DRAIN_TIMEOUT", details: { backend: "memory", timeoutMs: 60_000 } });
      expect(error()?.message).toContain('(backend "memory") still had ops in flight after 60000 ms');
      expect([group.state, backend.closed]).toEqual(["CLOSED", 1]);
    });

    test("is abandoned soon after its last op in flight has ended", async () => {
      const { clock, says, end, error } = await ending(1_800_000, 1);
      jest.useFakeTimers();
      try {
        const destroyed = end();
        await turns();
        clock.advance(5_000);
        says.inFlight = 0;
        await turns();
        clock.advance(1_000);
        await turns();
        jest.advanceTimersByTime(10_000);
        await destroyed;
      } finally {
        jest.useRealTimers();
      }
      expect(error()).toMatchObject({ code: "DRAIN_TIMEOUT", details: { timeoutMs: 10_000 } });
    });
  });

  test.each([
    [
      "throws",
      () => {
        throw new Error("stuck");
      },
    ],
    ["rejects", () => Promise.reject(new Error("stuck"))],
  ] as const)("a drained() that %s is the error of the destruction, after closing", async (_, drained) => {
    const { group, backend } = await start();
    backend.prompt = false;
    const work = group.allReduce(floats());
    backend.drained = drained;
    const destroyed = dist.destroyProcessGroup().catch((reason: Error) => reason);
    backend.works[0]?.settle();
    expect(await destroyed).toMatchObject({
      code: "BACKEND_ERROR",
      message: 'group "0": drained() of backend "memory" failed: stuck',
      cause: expect.any(Error),
    });
    expect([work.isSuccess(), group.state, backend.closed, dist.isInitialized()]).toEqual([true, "CLOSED", 1, false]);
  });

  test("destroy throws the first unobserved error, after closing", async () => {
    const { group, backend } = await start();
    const [seen, first, second] = [gone(), gone(), gone()];
    const emitted = await warnings(async () => {
      backend.failures.push(seen, first, second);
      await group.allReduce(floats()).catch(() => {});
      void group.allReduce(floats());
      void group.broadcast(floats(), { src: 0 });
    });
    expect(emitted.map(({ message }) => message)).toEqual(["unobserved failure: rank 3 is gone"]);
    // A warning is for people; no code has observed the error.
    expect(await dist.destroyProcessGroup().catch((reason: unknown) => reason)).toBe(first);
    expect([backend.closed, dist.isInitialized()]).toEqual([1, false]);
  });

  test("an unobserved invalid argument is such an error, too", async () => {
    const { group } = await start();
    await warnings(() => void group.broadcast(floats(), { src: 5 }));
    const error = await dist.destroyProcessGroup().catch((reason: unknown) => reason);
    expect(error).toMatchObject({ name: "InvalidArgumentError" });
  });

  test("observed errors are not thrown again", async () => {
    const { group, backend } = await start();
    backend.failures.push(gone(), gone());
    expect(() => group.allReduce(floats()).wait()).toThrow("rank 3 is gone");
    expect(group.allReduce(floats()).exception()).toBeDefined();
    await dist.destroyProcessGroup();
  });

  test("many failures leave one warning and bounded memory", async () => {
    const { group, backend } = await start();
    const emitted = await warnings(() => {
      for (let i = 0; i < 500; i++) {
        backend.failures.push(gone());
        void group.allReduce(floats());
      }
    });
    expect(emitted).toHaveLength(1);
    await dist.destroyProcessGroup().catch(() => {});
  });

  test("the ops of a failed group cause one warning, whatever the turn, and other causes one each", async () => {
    const { group, backend } = await start();
    const emitted = await warnings(async () => {
      backend.abort("enough");
      for (let i = 0; i < 5; i++) {
        backend.failures.push(new DistNetworkError(`op ${i} came too late`, { code: "PEER_LOST" }));
        void group.allReduce(floats());
        await Bun.sleep(1);
        void group.broadcast(floats(), { src: i < 3 ? 5 : 6 });
        await Bun.sleep(1);
      }
    });
    expect(emitted.map(({ message }) => message)).toEqual([
      "unobserved failure: op 0 came too late",
      expect.stringContaining("global rank 5 is not in group"),
      expect.stringContaining("global rank 6 is not in group"),
    ]);
    const end = await warnings(async () => {
      const error = await dist.destroyProcessGroup().catch((reason: unknown) => reason);
      expect(error).toMatchObject({ message: "op 0 came too late" });
    });
    expect(end).toMatchObject([{ name: "DistWarning", code: "PEER_LOST" }]);
    expect(end[0]?.message).toBe('group "0" had further failed ops that were not observed: at least 9');
  });

  test("an observed op does not suppress the warning about the next one with the same cause", async () => {
    const { group, backend } = await start();
    const emitted = await warnings(async () => {
      backend.abort("enough");
      backend.failures.push(gone(), gone());
      await group.allReduce(floats()).catch(() => {});
      void group.allReduce(floats());
    });
    expect(emitted.map(({ message }) => message)).toEqual([
      'unobserved failure: allReduce: group "0" has failed before (rank 3 is gone). It takes no more ops: make a new group with newGroup()',
    ]);
    await dist.destroyProcessGroup().catch(() => {});
  });

  test("after it, ops reject without reaching a backend", async () => {
    const { group, backend } = await start();
    await dist.destroyProcessGroup();
    for (const work of [
      group.allReduce(floats()),
      group.allReduce([floats()]),
      group.broadcast(floats(), { src: 0 }),
    ]) {
      const { name, code, message } = refusal(work);
      expect([name, code]).toEqual(["DistBackendError", "GROUP_CLOSED"]);
      expect(message).toContain('group "0" is closed');
    }
    expect(backend.calls).toEqual([]);
    const { code } = refusal(dist.allReduce(floats()));
    expect(code).toBe("NOT_INITIALIZED");
    await group.close();
    expect(backend.closed).toBe(1);
  });

  test("await using aborts ops in flight", async () => {
    let work: Work<unknown> | undefined;
    let backend: MemoryBackend | undefined;
    {
      const started = await start();
      await using group = started.group;
      backend = started.backend;
      backend.prompt = false;
      work = group.allReduce(floats());
    }
    expect(work.exception()?.code).toBe("ABORTED");
    expect([backend.closed, dist.isInitialized()]).toEqual([1, false]);
  });

  test.each(["close", "drained"] as const)(
    "a backend whose %s() fails does not keep the rank in its world",
    async (method) => {
      const { group, backend } = await start();
      backend.prompt = false;
      const work = group.allReduce(floats());
      backend[method] = () => Promise.reject(new Error(`${method} went wrong`));
      setTimeout(() => backend.works[0]?.settle(), 10);
      const error = await dist.destroyProcessGroup().catch((reason: Error) => reason);
      const step = method === "close" ? "closing backend" : "drained() of backend";
      expect(error).toMatchObject({
        code: "BACKEND_ERROR",
        message: `group "0": ${step} "memory" failed: ${method} went wrong`,
        cause: { message: `${method} went wrong` },
      });
      expect([group.state, dist.isInitialized()]).toEqual(["CLOSED", false]);
      await work.catch(() => {});
    },
  );

  test("a group that fails to close does not keep others from closing", async () => {
    const { backend } = await start();
    await dist.newGroup([0]);
    const other = plugin.made.at(-1);
    if (other === undefined) throw new Error("the plugin made no backend");
    other.close = () => Promise.reject(new Error("stuck"));
    const error = await dist.destroyProcessGroup().catch((reason: Error) => reason);
    expect(error).toMatchObject({
      code: "BACKEND_ERROR",
      message: 'group "1": closing backend "memory" failed: stuck',
    });
    expect([backend.closed, dist.isInitialized()]).toEqual([1, false]);
  });

  test.each(["inFlight", "drained", "close"] as const)(
    "a backend whose %s throws does not keep it either",
    async (member) => {
      const { group, backend } = await start();
      backend.prompt = false;
      group.allReduce(floats()).catch(() => {});
      setTimeout(() => backend.works[0]?.settle(), 5);
      Object.defineProperty(backend, member, {
        get: () => {
          throw new Error(`${member} went wrong`);
        },
      });
      const error = await dist.destroyProcessGroup().catch((reason: Error) => reason);
      expect(error).toMatchObject({
        code: "BACKEND_ERROR",
        message: expect.stringContaining(`failed: ${member} went wrong`),
        cause: { message: `${member} went wrong` },
      });
      expect([group.state, dist.isInitialized()]).toEqual(["CLOSED", false]);
    },
  );

  test("the other backends are aborted although one cannot be", async () => {
    const { group } = await start();
    const made = [plugin.made.at(-1)].filter((backend) => backend !== undefined);
    const turns = dist.roundRobinProcessGroups([group, await other()]);
    async function other(): Promise<ProcessGroup> {
      const second = await dist.newGroup([0]);
      const backend = plugin.made.at(-1);
      if (second === null || backend === undefined) throw new Error("no group");
      made.push(backend);
      return second;
    }
    const [first, second] = made;
    if (first === undefined) throw new Error("no backend");
    first.abort = () => {
      throw new Error("will not");
    };
    expect(() => turns.abort("enough")).toThrow("will not");
    expect(second?.aborted).toBe("enough");
  });

  test("an error in closing does not hide the error of the block", async () => {
    const seen = await warnings(async () => {
      const block = async () => {
        const started = await start();
        await using _group = started.group;
        started.backend.close = () => Promise.reject(gone());
        throw new Error("the user's own");
      };
      expect(await block().catch((error: Error) => error.message)).toBe("the user's own");
    });
    expect(seen).toMatchObject([{ name: "DistWarning", code: "PEER_LOST" }]);
    expect(seen[0]?.message).toBe('closing group "0" at the end of its block failed: rank 3 is gone');
  });

  test.each<[string, (group: ProcessGroup, second: ProcessGroup) => Work<unknown>]>([
    ["a list sent one by one", (group) => group.allGatherIntoTensor([floats(), floats()], [floats(), floats()])],
    ["a barrier on several groups", (group, second) => dist.roundRobinProcessGroups([group, second]).barrier()],
    ["a list of all-reduces", (group) => group.allReduce([floats(), floats()])],
    [
      "several ops behind one of several steps",
      (group) => {
        void group.allGatherObject(1).catch(() => {});
        return group.coalescing(() => {
          group.allReduce(floats());
          group.broadcast(floats(), { src: 0 });
        });
      },
    ],
  ])("a failure of several parts is observed with the whole: %s", async (_, call) => {
    const parts = memoryPlugin("parts", {
      capabilities: {
        ops: {
          allReduce: ["float32"],
          allReduceCoalesced: ["float32"],
          broadcast: ["float32"],
          allGatherIntoTensor: ["float32", "uint8"],
          barrier: [],
        },
        reduceOps: { float32: ["SUM"] },
      },
    });
    registerBackend(parts, { replace: true });
    for (const looked of [true, false]) {
      const { group } = await start({ backend: "parts" });
      const second = await dist.newGroup([0]);
      if (second === null) throw new Error("no group");
      for (const backend of parts.made.slice(-2)) for (let i = 0; i < 4; i++) backend.failures.push(gone());
      const work = call(group, second);
      const seen = await warnings(async () => {
        if (looked) await work.then(undefined, () => {});
        else await Bun.sleep(5);
      });
      expect(work.isSuccess()).toBe(false);
      expect(seen).toHaveLength(looked ? 0 : 1);
      const end = await dist.destroyProcessGroup().then(() => "well", String);
      expect(end === "well").toBe(looked);
    }
  });

  test("several Works of a failing group report the error that was observed first", async () => {
    const block = async () => {
      const { group, backend } = await start();
      backend.prompt = false;
      await using first = group.allReduce(floats());
      await using _second = group.allReduce(floats());
      setTimeout(() => group.abort("enough"), 1);
      await first;
    };
    expect(await block().catch((error: DistError) => error.code)).toBe("ABORTED");
  });

  test("middleware that throws leaves no backend behind", async () => {
    const container = createContainer({ overrides: [plugin] });
    container.register(BACKEND_MIDDLEWARE, {
      useValue: {
        name: "absent",
        create: () => {
          throw new Error("no middleware today");
        },
      },
    });
    const error = await start({ container }).catch((reason: Error) => reason);
    expect(error).toMatchObject({ cause: { message: "no middleware today" } });
    expect(plugin.made.at(-1)?.closed).toBe(1);
  });

  test("abort of a Work that has no abort of its own aborts the group", async () => {
    const { group, backend } = await start();
    backend.prompt = false;
    const whole = group.coalescing(() => void group.allReduce(floats()));
    whole.abort();
    expect(backend.aborted).toBe("coalescing was aborted");
    expect(await whole.catch((reason: unknown) => reason)).toMatchObject({ code: "ABORTED" });
  });

  test("abort reaches the backend and makes the group FAILED", async () => {
    const { group, backend } = await start();
    group.abort("enough");
    expect([backend.aborted, group.state]).toEqual(["enough", "FAILED"]);
  });
});
