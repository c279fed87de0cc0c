import "reflect-metadata";
import { afterEach, describe, expect, test } from "bun:test";
import { type OpCall, opTypeOf } from "../../collectives/index.ts";
import * as dist from "../../distributed/index.ts";
import { DistBackendError, type DistError } from "../../errors/index.ts";
import {
  BACKEND_MIDDLEWARE,
  Backend,
  type Capabilities,
  CLOCK,
  createContainer,
  FLIGHT_RECORDER,
  type Middleware,
} from "../../registry/index.ts";
import { HashStore } from "../../store/index.ts";
import { ManualClock } from "../../testing/manual-clock.ts";
import type { Work } from "../../work/index.ts";
import { ManualWork, memoryPlugin } from "../fixtures/memory-backend.ts";
import type { ProcessGroup } from "../process-group.ts";

let current: ProcessGroup | undefined;
afterEach(async () => {
  // With its clock, no op would time out.
  current?.abort("the test is over");
  current = undefined;
  if (dist.isInitialized()) await dist.destroyProcessGroup().catch(() => {});
});

const table: Capabilities = {
  ops: { allReduce: ["float32"], broadcast: ["float32"], allGather: ["float32"], barrier: [] },
  reduceOps: { float32: ["SUM"] },
};

type Own = { -readonly [Field in keyof OpCall]: unknown };

/** What plain JavaScript may do with the calls passed to it. */
type Mutation = (calls: OpCall[]) => unknown;

interface Terms {
  readonly mutate?: Mutation;
  readonly middleware?: Middleware;
  readonly keepsTimeouts?: boolean;
  readonly refuse?: Backend["refuse"];
  /** Returned instead of the list of new Works. */
  readonly listOf?: (works: Work<void>[]) => Work<void>[];
}

/** A group of one rank on a backend that changes the calls passed to it; a test ends its Works. */
async function groupOn({ mutate, middleware, keepsTimeouts = false, refuse, listOf = (works) => works }: Terms) {
  const works: ManualWork[] = [];
  const capabilities = { ...table, keepsTimeouts };
  class Mutating extends Backend {
    override readonly name = "ring";
    override readonly capabilities = capabilities;
    override submit(calls: readonly OpCall[]): readonly Work<void>[] {
      const made = calls.map((call) => new ManualWork({ opType: opTypeOf(call) }));
      works.push(...made);
      mutate?.(calls as OpCall[]);
      return listOf(made);
    }
    override abort(reason: string): void {
      for (const work of works) work.settle(new DistBackendError(reason, { code: "ABORTED" }));
    }
    override refuse(calls: readonly OpCall[]): readonly Work<void>[] | undefined {
      return refuse?.(calls);
    }
  }
  const plugin = memoryPlugin("ring", { capabilities, create: async () => new Mutating(0, 1) });
  const clock = new ManualClock();
  const container = createContainer({ overrides: [plugin] });
  container.register(CLOCK, { useValue: clock });
  if (middleware !== undefined) container.register(BACKEND_MIDDLEWARE, { useValue: middleware });
  const meeting = { store: new HashStore(), rank: 0, worldSize: 1, timeout: "20s" } as const;
  const group = await dist.initProcessGroup({ backend: "ring", container, ...meeting });
  current = group;
  return { group, works, clock, recorder: container.resolve(FLIGHT_RECORDER) };
}

const floats = () => new Float32Array(3);
const rejection = (work: Work<unknown>) =>
  work.then(() => "it ended well").catch((error: unknown) => error) as Promise<DistError>;

const take: Mutation = (calls) => {
  while (calls.shift() !== undefined);
};
const change =
  (fields: Partial<Own>): Mutation =>
  (calls) => {
    for (const call of calls) Object.assign(call, fields);
  };
const mutations: readonly [string, Mutation][] = [
  ["removes the calls from their list", take],
  ["adds to the list", (calls) => calls.push(...calls)],
  ["puts other things in the list", (calls) => calls.fill(undefined as never)],
  ["sets another time-out", change({ timeoutMs: Number.POSITIVE_INFINITY })],
  ["sets an invalid time-out", change({ timeoutMs: Number.NaN })],
  ["sets another op", change({ op: "barrier", peer: 7 })],
  ["sets no op", change({ op: undefined })],
  ["drops the tensors", change({ inputs: null, outputs: null })],
  [
    "takes the tensors from their lists",
    (calls) => {
      for (const { inputs, outputs } of calls as unknown as { inputs: unknown[]; outputs: unknown[] }[]) {
        inputs.length = 0;
        outputs.fill(null);
      }
    },
  ],
  [
    "freezes what it has changed",
    (calls) => {
      change({ outputs: null, timeoutMs: Number.NaN })(calls);
      calls.forEach(Object.freeze);
      Object.freeze(calls);
    },
  ],
];

describe.each(mutations)("a backend that %s", (_, mutate) => {
  test("of a single call: the op ends with its Work, and is recorded as what was called", async () => {
    const { group, works, recorder, clock } = await groupOn({ mutate });
    const tensor = floats();
    const work = group.allReduce(tensor, { timeout: 700 });
    expect(clock.pending).toBe(1);
    expect(recorder.entries().at(-1)).toMatchObject({
      op: "allReduce",
      outputs: [{ dtype: "float32", length: 3 }],
      timeoutMs: 700,
    });
    works[0]?.settle();
    expect(await work).toBe(tensor);
    expect([group.state, clock.pending]).toEqual(["OPEN", 0]);
  });

  test("of a single call: the op ends by its time-out", async () => {
    const { group, clock } = await groupOn({ mutate });
    const work = group.allReduce(floats(), { timeout: 700 });
    clock.advance(1_800);
    expect(await rejection(work)).toMatchObject({
      code: "OP_TIMEOUT",
      details: { op: "allReduce", seq: 1, timeoutMs: 700 },
    });
    expect(group.state).toBe("FAILED");
  });

  test("of a batch: the ops end with their Works, or by their time-outs", async () => {
    const { group, works, clock } = await groupOn({ mutate });
    const start = () => {
      const parts: Work<unknown>[] = [];
      const whole = group.coalescing(() => {
        parts.push(group.allReduce(floats(), { timeout: 700 }), group.broadcast(floats(), { src: 0, timeout: 900 }));
      });
      return [whole, ...parts] as const;
    };
    const [whole, ...parts] = start();
    for (const work of works) work.settle();
    await Promise.all([whole, ...parts]);
    const [late] = start();
    clock.advance(1_800);
    expect(await rejection(late)).toMatchObject({ code: "OP_TIMEOUT", details: { op: "allReduce", seq: 3 } });
  });

  test("and then throws: the ops reject and name what was called", async () => {
    const { group } = await groupOn({
      mutate: (calls) => {
        mutate(calls);
        throw new TypeError("no ring");
      },
    });
    const error = await rejection(group.allReduce(floats()));
    expect(error).toMatchObject({ code: "BACKEND_ERROR", details: { op: "allReduce", backend: "ring" } });
    expect(error.message).toBe('group "0": submit() of backend "ring" for allReduce failed: no ring');
    const whole = group.coalescing(() => {
      group.broadcast(floats(), { src: 0 });
      group.allReduce(floats());
    });
    expect(await rejection(whole)).toMatchObject({ code: "BACKEND_ERROR", details: { op: "broadcast" } });
  });

  test("in refuse(): ops after the end still reject", async () => {
    const { group } = await groupOn({
      refuse(calls) {
        mutate(calls as OpCall[]);
        return undefined;
      },
    });
    group.abort("enough");
    expect(await rejection(group.allReduce(floats()))).toMatchObject({
      code: "GROUP_FAILED",
      details: { op: "allReduce" },
    });
    const whole = group.coalescing(() => {
      group.broadcast(floats(), { src: 0 });
      group.allReduce(floats());
    });
    expect(await rejection(whole)).toMatchObject({ code: "GROUP_FAILED", details: { op: "broadcast" } });
  });

  test("under a middleware: the middleware still has the calls passed to it", async () => {
    const seen: unknown[] = [];
    const middleware: Middleware = {
      name: "looking",
      create: () => (next) => (calls) => {
        const works = next(calls);
        seen.push(...calls.map(({ op, timeoutMs, outputs }) => [op, timeoutMs, outputs.map(({ length }) => length)]));
        return works;
      },
    };
    const { group, works } = await groupOn({ mutate, middleware });
    const work = group.allReduce(floats(), { timeout: 700 });
    works[0]?.settle();
    await work;
    expect(seen).toEqual([["allReduce", 700, [3]]]);
  });
});

describe.each(mutations.filter(([what]) => !what.startsWith("freezes")))("a middleware that %s", (_, mutate) => {
  test("after passing them on: the op ends by its own time-out, and is recorded as what was called", async () => {
    const middleware: Middleware = {
      name: "changing",
      create: () => (next) => (calls) => {
        const works = next(calls);
        mutate(calls as OpCall[]);
        return works;
      },
    };
    const { group, clock, recorder } = await groupOn({ middleware });
    const work = group.allReduce(floats(), { timeout: 700 });
    expect(recorder.entries().at(-1)).toMatchObject({ op: "allReduce", outputs: [{ length: 3 }], timeoutMs: 700 });
    clock.advance(1_800);
    expect(await rejection(work)).toMatchObject({ code: "OP_TIMEOUT", details: { op: "allReduce", timeoutMs: 700 } });
  });
});

test("what a backend adds to the lists of an op without tensors does not appear in other ops", async () => {
  const { group, works } = await groupOn({
    mutate: (calls) => {
      for (const { inputs } of calls as unknown as { inputs: unknown[] }[]) inputs.push("mine");
    },
  });
  const seen: number[] = [];
  for (const work of [group.barrier(), group.barrier()]) {
    works.at(-1)?.settle();
    works.at(-2)?.settle();
    await work;
  }
  await dist.destroyProcessGroup();
  const next = await groupOn({ mutate: (calls) => seen.push(...calls.map(({ inputs }) => inputs.length)) });
  const work = next.group.barrier();
  next.works[0]?.settle();
  await work;
  expect(seen).toEqual([0]);
});

describe("a backend with its own time-outs, which gets the calls of the process group", () => {
  const fields: readonly [string, Mutation][] = mutations.filter(([what]) => !/lists|freezes/.test(what));
  test.each(fields)("and %s: the ops end with their Works", async (_, mutate) => {
    const { group, works } = await groupOn({ mutate, keepsTimeouts: true });
    const parts: Work<unknown>[] = [group.allReduce(floats())];
    parts.push(
      group.coalescing(() => {
        parts.push(group.allReduce(floats()), group.broadcast(floats(), { src: 0 }));
      }),
    );
    for (const work of works) work.settle();
    await Promise.all(parts);
    expect([parts.length, works.length]).toEqual([4, 3]);
  });

  test.each(fields)("and %s, and then throws: they reject with a code", async (_, mutate) => {
    const { group } = await groupOn({
      mutate: (calls) => {
        mutate(calls);
        throw new TypeError("no ring");
      },
      keepsTimeouts: true,
    });
    const whole = group.coalescing(() => {
      group.broadcast(floats(), { src: 0 });
      group.allReduce(floats());
    });
    for (const [work, op] of [
      [group.allReduce(floats()), "allReduce"],
      [whole, "broadcast"],
    ] as const) {
      expect(await rejection(work)).toMatchObject({ code: "BACKEND_ERROR", details: { op } });
    }
  });
});

describe("the list of Works", () => {
  test("that a backend reuses does not end an op too early", async () => {
    const list: Work<void>[] = [];
    const listOf = (made: Work<void>[]) => {
      list.splice(0, list.length, ...made);
      return list;
    };
    const { group, works } = await groupOn({ listOf });
    const whole = group.coalescing(() => {
      group.allReduce(floats());
      group.broadcast(floats(), { src: 0 });
    });
    const one = group.barrier();
    list.length = 0;
    // Nothing ends them meanwhile, as the error of wait() says.
    expect(() => whole.wait()).toThrow("nothing else runs");
    works[2]?.settle();
    await one;
  });

  test("into which a middleware put its own Work is watched", async () => {
    const middleware: Middleware = {
      name: "replacing",
      create: () => (next) => (calls) => {
        const works = next(calls) as Work<void>[];
        works[0] = new ManualWork({ opType: opTypeOf(calls[0] as OpCall) });
        return works;
      },
    };
    const { group, clock } = await groupOn({ middleware, keepsTimeouts: true });
    const work = group.allReduce(floats(), { timeout: 700 });
    clock.advance(1_800);
    expect(await rejection(work)).toMatchObject({ code: "OP_TIMEOUT", details: { timeoutMs: 700 } });
  });
});
