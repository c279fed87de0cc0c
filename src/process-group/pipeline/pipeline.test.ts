import "reflect-metadata";
import { afterEach, describe, expect, spyOn, test } from "bun:test";
import { type OpCall, OpType, opTypeOf } from "../../collectives/index.ts";
import * as dist from "../../distributed/index.ts";
import { DistBackendError, type DistError, DistNetworkError } from "../../errors/index.ts";
import {
  BACKEND_MIDDLEWARE,
  type BackendContext,
  type Capabilities,
  createContainer,
  type GroupContext,
  MethodBackend,
  type Middleware,
  type Submit,
} from "../../registry/index.ts";
import { HashStore } from "../../store/index.ts";
import { type TensorView, viewTensor } from "../../tensor/index.ts";
import { localRanks } from "../../testing/ranks/local-ranks.ts";
import { Work } from "../../work/index.ts";
import { everyOp, MemoryBackend, memoryPlugin } from "../fixtures/memory-backend.ts";
import type { ProcessGroup } from "../process-group.ts";

afterEach(async () => {
  if (dist.isInitialized()) await dist.destroyProcessGroup().catch(() => {});
});

type Layer = Awaited<ReturnType<Middleware["create"]>>;

/** The default group, of one rank, with middleware. */
function groupUnder(...middleware: readonly Middleware[]): Promise<ProcessGroup> {
  const container = createContainer();
  for (const each of middleware) container.register(BACKEND_MIDDLEWARE, { useValue: each });
  const meeting = { store: new HashStore(), rank: 0, worldSize: 1, timeout: "2s" };
  return dist.initProcessGroup({ backend: "fake", container, ...meeting });
}

/** Records the ops that reach it. */
const watching = (seen: string[]): Middleware => ({
  name: "watching",
  create: () => (next) => (calls) => {
    seen.push(...calls.map(({ op }) => op));
    return next(calls);
  },
});

const broken = (layer: unknown): Middleware => ({ name: "broken", create: () => layer as Layer });

describe("what submit returns", () => {
  const failing = () => Promise.reject(new Error("of an unused promise"));
  const cases: readonly [string, (next: Parameters<Layer>[0]) => (calls: readonly unknown[]) => unknown, string][] = [
    ["nothing", () => () => undefined, "got undefined"],
    ["a text", () => () => "four", 'got "four"'],
    ["a promise that rejects", () => async () => await failing(), "got Promise"],
    ["too few", () => () => [], "got 0 for 2 calls"],
    ["too many, one of which rejects", () => (calls) => [...calls, failing()], "got 3 for 2 calls"],
    ["holes", () => (calls) => new Array(calls.length), "got undefined for call 0"],
    ["something that is not a Work", () => (calls) => calls.map(() => 7), "got number 7 for call 0"],
    [
      "one Work for all",
      (next) => (calls) => new Array(calls.length).fill(next(calls as never)[0]),
      "got a Work for call 1 that stands for another call",
    ],
  ];
  for (const [what, layer, message] of cases) {
    test(`${what}: the ops reject and name what is at fault`, async () => {
      const group = await groupUnder(broken(layer));
      const parts: Work<unknown>[] = [];
      const whole = group.coalescing(() => {
        parts.push(group.broadcast(new Float32Array(1), { src: 0 }), group.allReduce(new Int8Array(1)));
      });
      // Earlier tests may have left middleware of the testing package in all containers.
      const blamed = 'backend "fake" or its middleware ("broken"';
      for (const work of [whole, ...parts]) {
        const error = (await work.catch((reason: unknown) => reason)) as DistError;
        expect([error.code, error.message.startsWith(blamed)]).toEqual(["INVALID_SUBMIT", true]);
        expect(error.message).toEndWith(`submit() must return one new Work for each call, ${message}`);
      }
    });
  }

  test("the same for a single call", async () => {
    for (const works of [undefined, "a", [7], [], new Array(1), new Set()]) {
      const group = await groupUnder(broken(() => () => works));
      expect(await group.barrier().catch((error: unknown) => error)).toMatchObject({ code: "INVALID_SUBMIT" });
      await dist.destroyProcessGroup();
    }
  });

  test("a Work of an earlier op is refused in a batch", async () => {
    let first: readonly Work<void>[] | undefined;
    const group = await groupUnder(
      broken((next: (calls: unknown) => readonly Work<void>[]) => (calls: unknown[]) => {
        if (first === undefined) {
          first = next(calls);
          return first;
        }
        return [...first, Work.completed(undefined, { opType: OpType.ALLREDUCE })];
      }),
    );
    await group.barrier();
    const whole = group.coalescing(() => {
      group.broadcast(new Float32Array(1), { src: 0 });
      group.allReduce(new Int8Array(1));
    });
    expect(await whole.catch((error: unknown) => error)).toMatchObject({ code: "INVALID_SUBMIT" });
  });

  test("so it is for a single call, or for a step", async () => {
    let first: Work<void> | undefined;
    const layer = (next: (calls: unknown) => readonly Work<void>[]) => (calls: unknown[]) => {
      first ??= next(calls)[0];
      return [first];
    };
    const group = await groupUnder(broken(layer));
    await group.barrier();
    for (const work of [group.barrier(), group.allGatherObject({ rank: 0 })]) {
      expect(await work.catch((error: unknown) => error)).toMatchObject({ code: "INVALID_SUBMIT" });
    }
  });

  const thenable = () => ({ then: (resolve: () => void) => resolve(), seq: 1, isCompleted: () => true });
  test.each<[string, () => unknown]>([
    ["a promise", () => Promise.resolve()],
    ["a promise that rejects", failing],
    ["a thenable with some methods of a Work", thenable],
  ])("%s is not a Work: the op does not complete with it", async (_, make) => {
    const group = await groupUnder(broken(() => (calls: unknown[]) => calls.map(make)));
    const parts: Work<unknown>[] = [group.allReduce(new Int8Array(1))];
    group.coalescing(() => {
      parts.push(group.allReduce(new Float32Array(1)), group.allReduce(new Int8Array(1)));
    });
    for (const work of parts) {
      const error = (await work.catch((reason: unknown) => reason)) as DistError;
      expect([error.name, error.code, error.details.backend, error.details.op]).toEqual([
        "DistBackendError",
        "INVALID_WORK",
        "fake",
        "allReduce",
      ]);
      expect(error.message).toStartWith('allReduce: backend "fake" or its middleware ("broken"');
      expect(error.message).toMatch(/submit\(\) returned (Promise|Object), which is not a Work: Work.fromPromise/);
    }
  });

  test("a Work of another copy of the package is accepted, and the op ends with it", async () => {
    const other: { readonly Work: typeof Work } = await import(`../../work/work.ts?${"another copy"}`);
    expect(other.Work === Work).toBe(false);
    const gone = new DistNetworkError("rank 3 is gone", { code: "PEER_LOST" });
    const layer = () => (calls: readonly OpCall[]) =>
      calls.map((call) => {
        const init = { opType: opTypeOf(call) };
        return call.op === "barrier" ? other.Work.rejected(gone, init) : other.Work.completed(undefined, init);
      });
    const group = await groupUnder(broken(layer));
    const tensor = new Float32Array(1);
    expect(await group.allReduce(tensor)).toBe(tensor);
    expect(await group.barrier().catch((error: unknown) => error)).toBe(gone);
  });
});

describe("invalid middleware", () => {
  test.each<[unknown, string]>([
    [{}, "a middleware is an object with a name and create(), got Object"],
    ["metrics", 'a middleware is an object with a name and create(), got "metrics"'],
    [{ name: "", create: () => {} }, "a middleware is an object with a name and create(), got Object"],
    [{ name: "metrics" }, 'middleware "metrics" must have a function create(), got undefined'],
  ])("%p is refused", async (middleware, message) => {
    await expect(groupUnder(middleware as Middleware)).rejects.toMatchObject({
      name: "InvalidArgumentError",
      message: `BACKEND_MIDDLEWARE: ${message}`,
    });
  });
});

describe("two middlewares with the same name", () => {
  test("have separate keys", async () => {
    const contexts: GroupContext[] = [];
    const twin: Middleware = {
      name: "twin",
      create(context) {
        contexts.push(context);
        return (next) => next;
      },
    };
    await groupUnder(twin, { ...twin });
    const [inner, outer] = contexts;
    await inner?.store.set("key", "inner");
    expect(await outer?.store.check(["key"])).toBe(false);
  });
});

describe("the end of the group", () => {
  /** The context of a group that is closed or has failed. */
  async function contextOf(): Promise<{ group: ProcessGroup; context: GroupContext }> {
    const { promise, resolve } = Promise.withResolvers<GroupContext>();
    const keeper: Middleware = {
      name: "keeper",
      create(context) {
        resolve(context);
        return (next) => next;
      },
    };
    return { group: await groupUnder(keeper), context: await promise };
  }

  test("a listener added after it is called immediately", async () => {
    const { group, context } = await contextOf();
    const reasons: string[] = [];
    context.onAbort((reason) => reasons.push(`first: ${reason}`));
    group.abort("enough");
    context.onAbort((reason) => reasons.push(`second: ${reason}`));
    expect(reasons).toEqual(["first: enough", "second: enough"]);
  });

  test("ops called after it are refused by the backend, bypassing the middleware", async () => {
    const { promise, resolve } = Promise.withResolvers<GroupContext>();
    const holder: Middleware = {
      name: "holder",
      create(context) {
        resolve(context);
        return () => (calls) =>
          calls.map((call) => Work.fromPromise(new Promise<void>(() => {}), { opType: opTypeOf(call) }));
      },
    };
    const group = await groupUnder(holder);
    await promise;
    group.backend().abort("its peer is lost");
    expect(group.state).toBe("FAILED");
    expect(await group.barrier().catch((error: unknown) => error)).toMatchObject({ code: "GROUP_FAILED" });
  });

  test("calls held for a failed group end, too", async () => {
    const holder: Middleware = {
      name: "holder",
      create: (context) => () => (calls) =>
        calls.map((call) => {
          const { promise, reject } = Promise.withResolvers<void>();
          context.onAbort((reason) => reject(new Error(reason)));
          return Work.fromPromise(promise, { opType: opTypeOf(call) });
        }),
    };
    const group = await groupUnder(holder);
    group.abort("enough");
    expect(group.barrier().then()).rejects.toThrow("enough");
  });

  test("a listener that rejects is a warning", async () => {
    const { group, context } = await contextOf();
    const warned = spyOn(process, "emitWarning").mockImplementation(() => {});
    try {
      context.onAbort(async () => {
        throw new Error("too late");
      });
      group.abort("enough");
      await Bun.sleep(0);
      expect(warned.mock.calls.map(([text]) => String(text))).toEqual([
        'group "0": a middleware failed when the group did: too late',
      ]);
    } finally {
      warned.mockRestore();
    }
  });

  test("so is an abort() of a backend that rejects", async () => {
    const abort = async () => {
      throw new Error("cannot");
    };
    const plugin = memoryPlugin("memory");
    const create = async (context: BackendContext) => Object.assign(await plugin.create(context), { abort });
    const container = createContainer({ overrides: [{ ...plugin, create }] });
    const meeting = { store: new HashStore(), rank: 0, worldSize: 1 };
    const group = await dist.initProcessGroup({ backend: "memory", container, ...meeting });
    const warned = spyOn(process, "emitWarning").mockImplementation(() => {});
    try {
      group.abort("enough");
      await Bun.sleep(0);
      expect(warned.mock.calls.map(([text]) => String(text))).toEqual([
        'group "0": abort() of backend "memory" failed: cannot',
      ]);
    } finally {
      warned.mockRestore();
    }
  });

  test("helper groups are refused after it, and those being made are closed", async () => {
    const { group, context } = await contextOf();
    const late = context.helperGroup();
    await group.close();
    for (const helper of [late, context.helperGroup()]) {
      expect(await helper.catch((error: unknown) => error)).toMatchObject({ code: "GROUP_FAILED" });
    }
  });
});

describe("a group with several devices", () => {
  /** The default group on two devices; the middleware for the GPU fails it on request, or immediately. */
  async function groupOfTwo(backend: string, atOnce = false) {
    const [host, gpu] = [memoryPlugin("host"), memoryPlugin("gpu", { devices: ["cuda"] })];
    const container = createContainer({ overrides: [host, gpu] });
    let fail = (): void => {};
    container.register(BACKEND_MIDDLEWARE, {
      useValue: {
        name: "failing",
        create(context: GroupContext) {
          if (context.device.type === "cuda") fail = () => context.fail(new DistBackendError("the GPU is gone"));
          if (atOnce) fail();
          return (next: Parameters<Layer>[0]) => next;
        },
      },
    });
    const meeting = { store: new HashStore(), rank: 0, worldSize: 1 };
    const group = await dist.initProcessGroup({ backend, container, ...meeting });
    const [made] = host.made;
    if (made === undefined) throw new Error("no backend was made");
    return { group, made, fail };
  }

  test("middleware that fails it on one fails it on all", async () => {
    const { group, made, fail } = await groupOfTwo("cpu:host,cuda:gpu");
    made.prompt = false;
    const work = group.allReduce(new Float32Array(1));
    fail();
    expect(await work.catch((error: unknown) => error)).toMatchObject({ code: "ABORTED", message: "the GPU is gone" });
    const later = await group.allReduce(new Float32Array(1)).catch((error: unknown) => error);
    expect(later).toMatchObject({ code: "GROUP_FAILED", cause: { message: "the GPU is gone" } });
    expect(group.state).toBe("FAILED");
  });

  test("so it does while the others are still being made", async () => {
    const { group } = await groupOfTwo("cuda:gpu,cpu:host", true);
    const error = await group.allReduce(new Float32Array(1)).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: "GROUP_FAILED", cause: { message: "the GPU is gone" } });
  });
});

describe("a backend that fails while no op is in flight", () => {
  const capabilities: Capabilities = { ops: { barrier: [] }, reduceOps: {} };

  class Fragile extends MethodBackend {
    override readonly capabilities = capabilities;

    constructor(
      override readonly name: string,
      { rank, size }: BackendContext,
    ) {
      super(rank, size);
    }

    override barrier(): void {}

    lose(): void {
      this.fail(new DistBackendError("its card is gone"));
    }
  }

  /** A plugin, and the backend that it created. */
  function fragile(name: string, device: "cpu" | "cuda", onCreate = () => {}) {
    const made: Fragile[] = [];
    const create = async (context: BackendContext) => {
      onCreate();
      const backend = new Fragile(name, context);
      made.push(backend);
      return backend;
    };
    return { plugin: memoryPlugin(name, { devices: [device], capabilities, create }), made };
  }

  const place = () => ({ store: new HashStore(), rank: 0, worldSize: 1 });

  test("fails the group on a device whose backend is still being made", async () => {
    const card = fragile("card", "cuda");
    const host = fragile("host", "cpu", () => card.made[0]?.lose());
    const container = createContainer({ overrides: [card.plugin, host.plugin] });
    const group = await dist.initProcessGroup({ backend: "cuda:card,cpu:host", container, ...place() });
    expect(await group.barrier().catch((error: unknown) => error)).toMatchObject({
      code: "GROUP_FAILED",
      cause: { message: 'group "0": backend "card" has failed: its card is gone' },
    });
  });

  test("ends what middleware holds, and the group on its other devices", async () => {
    const [host, card] = [fragile("host", "cpu"), fragile("card", "cuda")];
    const ends: string[] = [];
    const holding: Middleware = {
      name: "holding",
      create(context) {
        const held = Promise.withResolvers<void>();
        held.promise.catch(() => {});
        context.onAbort((reason) => {
          ends.push(`${context.device.type}: ${reason}`);
          held.reject(new DistBackendError(reason));
        });
        return () => (calls) => calls.map((call) => Work.fromPromise(held.promise, { opType: opTypeOf(call) }));
      },
    };
    const container = createContainer({ overrides: [host.plugin, card.plugin] });
    container.register(BACKEND_MIDDLEWARE, { useValue: holding });
    const group = await dist.initProcessGroup({ backend: "cpu:host,cuda:card", container, ...place() });
    const held = group.barrier();
    card.made[0]?.lose();
    expect(await held.catch((error: unknown) => error)).toMatchObject({
      message: expect.stringContaining("its card is gone"),
    });
    expect(ends).toEqual(["cuda: its card is gone", 'cpu: group "0": backend "card" has failed: its card is gone']);
    // No longer held, since nothing would end it.
    expect(await group.barrier().catch((error: unknown) => error)).toMatchObject({ code: "GROUP_FAILED" });
    expect([group.state, host.made[0]?.state]).toEqual(["FAILED", "FAILED"]);
    await group.close();
    expect(ends).toHaveLength(2);
  });
});

describe("a backend that still accepts ops after its failure", () => {
  /** It reports that it has failed, and refuses nothing. */
  class Eager extends MemoryBackend {
    says: "OPEN" | "FAILED" = "OPEN";

    override get state() {
      return this.says;
    }

    override abort(): void {}

    lose(reason: string): void {
      this.announceFailure(reason);
    }
  }

  const place = () => ({ store: new HashStore(), rank: 0, worldSize: 1 });
  async function eagerGroup() {
    const made: Eager[] = [];
    const capabilities = { ...everyOp, ops: { ...everyOp.ops, barrier: [] } };
    const create = async (context: BackendContext) => {
      const backend = new Eager(context, capabilities);
      made.push(backend);
      return backend;
    };
    const container = createContainer({ overrides: [memoryPlugin("eager", { capabilities, create })] });
    const group = await dist.initProcessGroup({ backend: "eager", container, ...place() });
    const [backend] = made;
    if (backend === undefined) throw new Error("no backend");
    return { group, backend };
  }

  const ends: readonly [string, (group: ProcessGroup, backend: Eager) => unknown, string][] = [
    [
      "that it has announced",
      (_, backend) => backend.lose("its card is gone"),
      'group "0": backend "eager" has failed: its card is gone',
    ],
    [
      "of an op",
      (group, backend) => {
        backend.failures.push(new DistNetworkError("rank 3 is gone", { code: "PEER_LOST", peers: [3] }));
        backend.says = "FAILED";
        return group.barrier().exception();
      },
      "rank 3 is gone",
    ],
    ["by abort()", (group) => group.abort("enough"), "enough"],
  ];
  test.each(ends)("gets none of them: a failure %s", async (_, end, reason) => {
    const { group, backend } = await eagerGroup();
    end(group, backend);
    const before = backend.calls.length;
    expect(group.state).toBe("FAILED");
    const works: Work<unknown>[] = [group.barrier()];
    group.coalescing(() => void works.push(group.barrier(), group.barrier()));
    for (const work of works) {
      const error = work.exception();
      // Compared as strings: a matcher that matches the message of an error would replace it there.
      expect([error?.code, error?.message]).toEqual([
        "GROUP_FAILED",
        `barrier: group "0" has failed before (${reason}). It takes no more ops: make a new group with newGroup()`,
      ]);
      expect(error?.cause).toHaveProperty("message", reason);
    }
    expect([backend.calls.length, backend.refusals]).toEqual([before, 0]);
  });
});

describe("a backend or middleware that cannot be made", () => {
  test.each([new TypeError("no card"), undefined, "no card"])("is named: %p", async (thrown) => {
    const throwing = () => {
      throw thrown;
    };
    const text = `for group "0": create() threw ${thrown instanceof Error ? thrown.message : thrown}`;
    await expect(groupUnder({ name: "metrics", create: throwing })).rejects.toMatchObject({
      code: "CREATE_FAILED",
      message: `middleware "metrics" could not be made ${text}`,
      ...(thrown !== undefined && { cause: thrown }),
    });
    const container = createContainer({ overrides: [memoryPlugin("card", { create: throwing })] });
    const place = { store: new HashStore(), rank: 0, worldSize: 1 };
    await expect(dist.initProcessGroup({ backend: "card", container, ...place })).rejects.toMatchObject({
      code: "CREATE_FAILED",
      message: `backend "card" could not be made ${text}`,
    });
  });

  test("an error of this package is passed on unchanged", async () => {
    const error = new DistBackendError("the card is in use", { code: "IN_USE" });
    await expect(groupUnder({ name: "metrics", create: () => Promise.reject(error) })).rejects.toBe(error);
  });
});

describe("a call that a middleware changed", () => {
  type Change = (view: TensorView) => Partial<TensorView>;
  const resizing = (change: Change): Middleware => ({
    name: "resizing",
    create: () => (next) => (calls) =>
      next(calls.map((call) => ({ ...call, outputs: call.outputs.map((view) => ({ ...view, ...change(view) })) }))),
  });
  const resizingInPlace = (change: Change): Middleware => ({
    name: "resizing",
    create: () => (next) => (calls) => {
      for (const { outputs } of calls) for (const view of outputs) Object.assign(view, change(view));
      return next(calls);
    },
  });
  const wrong: readonly [Change, string][] = [
    [() => ({ length: 8, byteLength: 32 }), "claims 32 bytes, more than its memory has (16)"],
    [() => ({ byteLength: 8 }), "has 4 elements of float32, which do not make its 8 bytes"],
    [() => ({ byteLength: -4, length: -1 }), "has byteLength -4"],
    [() => ({ dtype: "float31" as never }), "has the unknown dtype float31"],
    [() => ({ data: undefined }), "has no memory: its data is undefined and its ptr is 0"],
    [() => ({ data: [1, 2, 3, 4] as never }), "has an array of 4 as its data, which is not a TypedArray"],
    [() => ({ data: new Float32Array(2) }), "claims 16 bytes, more than its memory has (8)"],
  ];
  const both = wrong.flatMap((each) => [resizing, resizingInPlace].map((spoil) => [...each, spoil] as const));
  for (const [change, message, spoil] of both) {
    test(`is refused before it reaches a backend if its view ${message}, by ${spoil.name}`, async () => {
      const group = await groupUnder(spoil(change));
      const error = (await group.allReduce(new Float32Array(4)).catch((reason: unknown) => reason)) as DistError;
      expect([error.name, error.code, error.details.argument]).toEqual([
        "InvalidArgumentError",
        "INVALID_CALL",
        "outputs[0]",
      ]);
      expect(error.message).toBe(`allReduce: middleware "resizing" changed the call, and its outputs[0] ${message}`);
      expect(group.state).toBe("OPEN");
    });
  }

  test("is refused without naming the middleware if its memory was detached", async () => {
    const detaching: Middleware = {
      name: "detaching",
      create: () => (next) => (calls) => {
        for (const { outputs } of calls)
          for (const { data } of outputs) structuredClone(data, { transfer: [data?.buffer as ArrayBuffer] });
        return next(calls);
      },
    };
    const seen: string[] = [];
    const group = await groupUnder(detaching, watching(seen));
    const error = (await group.allReduce(new Float32Array(4)).catch((reason: unknown) => reason)) as DistError;
    expect([error.name, error.code, error.details.argument]).toEqual([
      "InvalidArgumentError",
      "DETACHED_BUFFER",
      "outputs[0]",
    ]);
    expect([seen, group.state]).toEqual([["refused"], "OPEN"]);
  });

  test("still takes its turn, and messages take none", async () => {
    const seen: string[] = [];
    // The first one registered is outermost.
    const group = await groupUnder(
      resizing(() => ({ length: 8, byteLength: 32 })),
      watching(seen),
    );
    await group.allReduce(new Float32Array(4)).catch(() => {});
    expect(seen).toEqual(["refused"]);
  });

  test("is passed on if its views are valid", async () => {
    const halving = resizing(({ data }) => ({ data: (data as Float32Array).subarray(0, 2), length: 2, byteLength: 8 }));
    const group = await groupUnder(halving);
    const tensor = Float32Array.of(1, 2, 3, 4);
    expect(await group.allReduce(tensor)).toBe(tensor);
    await dist.destroyProcessGroup();
  });

  type Edit = (call: OpCall) => Partial<Record<keyof OpCall, unknown>>;
  const ways: readonly [string, (change: Edit) => Middleware][] = [
    [
      "in a copy",
      (change) => ({
        name: "editing",
        create: () => (next) => (calls) => next(calls.map((call) => ({ ...call, ...change(call) }) as OpCall)),
      }),
    ],
    [
      "in place",
      (change) => ({
        name: "editing",
        create: () => (next) => (calls) => {
          for (const call of calls) if (call.op !== "refused") Object.assign(call, change(call));
          return next(calls);
        },
      }),
    ],
    [
      "in its list",
      (change) => ({
        name: "editing",
        create: () => (next) => (calls) => {
          for (const [i, call] of calls.entries()) (calls as OpCall[])[i] = { ...call, ...change(call) } as OpCall;
          return next(calls);
        },
      }),
    ],
  ];
  const edits: readonly [string, Edit, RegExp][] = [
    ["op", () => ({ op: "allReduec" }), /^op: .*its op is not in the op table, got "allReduec"$/],
    ["op", () => ({ op: 7 }), /its op is not in the op table, got number 7$/],
    ["op", () => ({ op: "toString" }), /its op is not in the op table, got "toString"$/],
    ["outputs", () => ({ op: "allGather" }), /its outputs has 1 tensors|its inputs has 0 tensors/],
    ["outputs", () => ({ outputs: "none" }), /its outputs is not a list of views, got "none"$/],
    ["outputs", ({ outputs }) => ({ outputs: [...outputs, ...outputs] }), /its outputs has 2 tensors, the op takes 1$/],
    ["reduceOp", () => ({ reduceOp: "SUM" }), /its reduceOp is not one of ReduceOp's constants, got "SUM"$/],
    ["root", () => ({ op: "broadcast", root: 4 }), /^broadcast: .*its root is not a rank of the group of 1, got 4$/],
    ["root", () => ({ op: "reduce", root: "0" }), /its root is not a rank of the group of 1, got "0"$/],
    ["outputs", () => ({ op: "allReduceCoalesced", outputs: [] }), /its outputs has 0 tensors, the op takes 1$/],
    [
      "inputSplits",
      ({ outputs }) => ({ op: "allToAllSingle", inputs: outputs, inputSplits: [3], outputSplits: [4] }),
      /its inputSplits adds up to 3 elements, its tensor has 4$/,
    ],
    [
      "outputSplits",
      ({ outputs }) => ({ op: "allToAllSingle", inputs: outputs, inputSplits: [4] }),
      /its outputSplits is missing, although the splits of the other side are given$/,
    ],
    [
      "dtype",
      ({ outputs: [view] }) => ({ op: "allReduceCoalesced", outputs: [view, viewTensor(new Int32Array(4))] }),
      /its dtype is float32 in one tensor and int32 in another$/,
    ],
    [
      "outputs",
      ({ outputs }) => ({ op: "allReduceCoalesced", outputs: [...outputs, ...outputs] }),
      /its outputs does not fit \(allReduce: .*\)$/,
    ],
    [
      "outputs[0]",
      ({ outputs: [view] }) => ({ outputs: [{ ...view, device: { type: "cuda", index: 0 } }] }),
      /its outputs\[0\] is not on cpu:0, the device of this backend$/,
    ],
    ["waitAllRanks", () => ({ waitAllRanks: 1 }), /its waitAllRanks is not true or false, got number 1$/],
    ["continuation", () => ({ continuation: null }), /its continuation is not true or false, got null$/],
    ["timeoutMs", () => ({ timeoutMs: "10s" }), /its timeoutMs is not a time-out in milliseconds, got "10s"$/],
    ["timeoutMs", () => ({ timeoutMs: Number.NaN }), /its timeoutMs is not a time-out in milliseconds, got NaN$/],
    ["stream", () => ({ stream: 3 }), /its stream is not a stream, got number 3$/],
  ];
  for (const [way, editing] of ways) {
    for (const [field, change, message] of edits) {
      test(`${way}: its ${field} is checked (${message.source})`, async () => {
        const seen: string[] = [];
        const group = await groupUnder(editing(change), watching(seen));
        const error = (await group.allReduce(new Float32Array(4)).catch((reason: unknown) => reason)) as DistError;
        expect([error.name, error.code]).toEqual(["InvalidArgumentError", "INVALID_CALL"]);
        expect(error.message).toMatch(message);
        expect(error.message).toContain('middleware "editing" changed the call');
        expect([seen, group.state]).toEqual([["refused"], "OPEN"]);
      });
    }
  }

  test.each(ways)("%s: a message takes no turn, not even one with an unknown op", async (_, editing) => {
    const seen: string[] = [];
    const container = createContainer();
    const misspelling = editing(({ op }) => (op === "send" ? { op: "sned" } : {}));
    container.register(BACKEND_MIDDLEWARE, { useValue: misspelling });
    container.register(BACKEND_MIDDLEWARE, { useValue: watching(seen) });
    const send = async ({ rank }: { readonly rank: number }) => {
      const sent = dist.send(new Float32Array(1), { dst: 1 - rank });
      expect(await sent.catch((reason: unknown) => reason)).toMatchObject({ code: "INVALID_CALL" });
    };
    await localRanks(2, send, { container, timeout: "10s" });
    expect(seen).toEqual([]);
  });
});

describe("an error of another package", () => {
  const broke = new TypeError("the ring broke");
  const failing: readonly [string, Submit][] = [
    ["of a failed Work", (calls) => calls.map((call) => Work.rejected(broke, { opType: opTypeOf(call) }))],
    [
      "of a Work that fails later",
      (calls) =>
        calls.map((call) =>
          Work.fromPromise(
            Bun.sleep(1).then(() => Promise.reject(broke)),
            { opType: opTypeOf(call) },
          ),
        ),
    ],
  ];
  const place = () => ({ store: new HashStore(), rank: 0, worldSize: 1 });
  const withSubmit = async (submit: Submit, method: "submit" | "abort" = "submit") => {
    const plugin = memoryPlugin("ring");
    const group = await dist.initProcessGroup({
      backend: "ring",
      container: createContainer({ overrides: [plugin] }),
      ...place(),
    });
    for (const backend of plugin.made) backend[method] = submit as never;
    return group;
  };
  test.each(failing)("has a code and names the op: %s", async (_, submit) => {
    const group = await withSubmit(submit);
    expect(await group.allReduce(new Float32Array(1)).catch((error: unknown) => error)).toMatchObject({
      name: "DistBackendError",
      code: "BACKEND_ERROR",
      message: 'allReduce #1 (ring, group "0", rank 0 of 1): the ring broke',
      cause: broke,
      details: { backend: "ring", group: "0", op: "allReduce", seq: 1 },
    });
  });

  test.each(["submit", "abort"] as const)("thrown by %s()", async (method) => {
    const group = await withSubmit(() => {
      throw broke;
    }, method);
    const error =
      method === "submit"
        ? group.allReduce(new Float32Array(1)).exception()
        : await (async () => group.abort("enough"))().catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      name: "DistBackendError",
      code: "BACKEND_ERROR",
      message: `group "0": ${method}() of backend "ring"${method === "submit" ? " for allReduce" : ""} failed: the ring broke`,
      cause: broke,
    });
  });
});

describe("a middleware that throws", () => {
  test("is named, and the collective still takes its turn", async () => {
    const seen: string[] = [];
    const cause = new TypeError("undefined is not a function");
    const throwing: Middleware = {
      name: "throwing",
      create: () => () => () => {
        throw cause;
      },
    };
    const group = await groupUnder(throwing, watching(seen));
    expect(await group.allReduce(new Float32Array(4)).catch((reason: unknown) => reason)).toMatchObject({
      name: "DistBackendError",
      code: "MIDDLEWARE_ERROR",
      message: 'middleware "throwing": its submit function threw undefined is not a function',
      cause,
    });
    expect([seen, group.state]).toEqual([["refused"], "OPEN"]);
  });
});
