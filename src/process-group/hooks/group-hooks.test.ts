import "reflect-metadata";
import { afterEach, describe, expect, spyOn, test } from "bun:test";
import { subscribe, tracingChannel, unsubscribe } from "node:diagnostics_channel";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as dist from "../../index.ts";
import { readStatuses } from "../../status/index.ts";
import { localRanks } from "../../testing/index.ts";

const one = () => new Float32Array([1]);

/** Runs a body on rank 0 of two, with a logger that keeps its messages; rank 1 makes the same calls. */
async function onRank0(body: (group: dist.ProcessGroup, rank: number) => Promise<unknown>): Promise<string[]> {
  const lines: string[] = [];
  const write = (message: string) => void lines.push(message);
  const container = dist.createContainer();
  container.register(dist.LOGGER, { useValue: { debug() {}, info() {}, warn: write, error: write } });
  await localRanks(2, ({ group, rank }) => body(group, rank), { container });
  return lines;
}

afterEach(() => {
  const { start, end, asyncStart, asyncEnd, error } = tracingChannel("bun-c10d.op");
  for (const each of [start, end, asyncStart, asyncEnd, error]) expect(each.hasSubscribers).toBe(false);
});

describe("hooks of a group", () => {
  test("are called before and after an op is submitted, joined by its id, and at its end", async () => {
    const events: unknown[][] = [];
    await onRank0(async (group, rank) => {
      if (rank !== 0) {
        await group.allReduce(one());
        await group.broadcastObject("a", { src: 0 });
        return;
      }
      expect(group.hasHooks()).toBe(false);
      using _hooks = group.registerHook({
        pre: ({ opId, op, opType, inputs, outputs, root, group: name, rank: own, globalRanks, callSite }) => {
          events.push(["pre", opId, op, opType, inputs.length, outputs.map(({ length }) => length), root]);
          expect([name, own, globalRanks]).toEqual(["0", 0, [0, 1]]);
          expect(dist.lineOf(callSite as dist.CallSite)).toContain("group-hooks.test.ts:");
        },
        post: ({ opId, op, work }) => events.push(["post", opId, op, work instanceof dist.Work]),
      });
      using _end = group.registerOnCompletionHook(({ opType, timeFinished }, { opId, op, error }) => {
        events.push(["end", opId, op, opType, timeFinished instanceof Date, error]);
      });
      expect(group.hasHooks()).toBe(true);
      await group.allReduce(one());
      await group.broadcastObject("a", { src: 0 });
      await group.waitForPendingWorks();
    });
    const [a, b] = [events[0]?.[1], events[3]?.[1]];
    expect(a).not.toBe(b);
    expect(events).toEqual([
      ["pre", a, "allReduce", dist.OpType.ALLREDUCE, 0, [1], -1],
      ["post", a, "allReduce", true],
      ["end", a, "allReduce", dist.OpType.ALLREDUCE, true, undefined],
      ["pre", b, "broadcastObject", dist.OpType.BROADCAST, 0, [], 0],
      ["post", b, "broadcastObject", true],
      ["end", b, "broadcastObject", dist.OpType.BROADCAST, true, undefined],
    ]);
  });

  test("are not called once they are disposed of, nor for ops that are refused or that a hook starts", async () => {
    const seen: string[] = [];
    await onRank0(async (group, rank) => {
      const hooks = group.registerHook({
        pre: ({ op }) => seen.push(op),
        post: ({ op }) => (op === "allReduce" && rank === 0 ? void group.barrier() : undefined),
      });
      await group.allReduce(one());
      if (rank === 1) await group.barrier();
      await group.allReduce("x" as never).catch(() => {});
      hooks[Symbol.dispose]();
      hooks[Symbol.dispose]();
      await group.allReduce(one());
    });
    expect(seen.toSorted()).toEqual(["allReduce", "allReduce", "barrier"]);
  });

  test("that throw or reject are logged and harm nothing", async () => {
    const lines = await onRank0(async (group, rank) => {
      const t = one();
      if (rank === 0) {
        group.registerHook({
          pre: () => {
            throw new Error("pre is broken");
          },
          post: () => Promise.reject(new Error("post is broken")),
        });
        group.registerOnCompletionHook(() => {
          throw new Error("completion is broken");
        });
      }
      await group.allReduce(t);
      await group.waitForPendingWorks();
      expect(t).toEqual(new Float32Array([2]));
    });
    for (const kind of ["pre", "post", "completion"]) {
      expect(
        lines.filter((line) => line.includes(`the ${kind} hook of group "0" (rank 0) has failed: ${kind} is broken`)),
      ).toHaveLength(1);
    }
  });

  const thenable = (then: unknown) => ({ then }) as unknown as Promise<void>;
  const rejecting = thenable((_: unknown, reject: (reason: Error) => void) => reject(new Error("broken")));
  const returned: readonly (readonly [what: string, value: () => unknown])[] = [
    ["a thenable that rejects", () => rejecting],
    ["a function with such a then", () => Object.assign(() => {}, { then: (rejecting as { then: unknown }).then })],
    [
      "a thenable whose then throws",
      () =>
        thenable(() => {
          throw new Error("broken");
        }),
    ],
    [
      "an object whose then is a getter that throws",
      () => ({
        get then() {
          throw new Error("broken");
        },
      }),
    ],
  ];
  test.each(returned)("that return %s are logged, and waitForPendingWorks() waits for them", async (_, value) => {
    const lines = await onRank0(async (group, rank) => {
      const t = one();
      if (rank === 0) {
        group.registerHook({ pre: value, post: value });
        group.registerOnCompletionHook(value);
      }
      await group.allReduce(t);
      await group.waitForPendingWorks();
      expect(t).toEqual(new Float32Array([2]));
    });
    const failures = lines.filter((line) => line.includes("has failed")).toSorted();
    expect(
      failures.map((line) => /the (\w+) hook of group "0" \(rank 0\) has failed: broken$/.exec(line)?.[1]),
    ).toEqual(["completion", "post", "pre"]);
  });

  test("that return the Work of the op do not observe its error", async () => {
    const lines = await onRank0(async (group, rank) => {
      if (rank !== 0) return;
      using _hooks = group.registerHook({ post: ({ work }) => work });
      const work = group.allReduce(one(), { timeout: 20 });
      await new Promise<void>((resolve) => work.whenEnded(resolve));
      await group.waitForPendingWorks();
      expect(work.observed).toBe(false);
      expect(work.exception()).toBeInstanceOf(dist.DistError);
    });
    expect(lines.filter((line) => line.includes("the post hook"))).toEqual([]);
  });

  test("for the end: one at a time, and waitForPendingWorks() waits for what it returns", async () => {
    await onRank0(async (group) => {
      let ended = 0;
      const hook = group.registerOnCompletionHook(async () => {
        await Bun.sleep(20);
        ended++;
      });
      expect(() => group.registerOnCompletionHook(() => {})).toThrow(/already registered/);
      const works = [group.allReduce(one()), group.allReduce(one())];
      await group.waitForPendingWorks();
      expect([ended, works.every((work) => work.isCompleted())]).toEqual([2, true]);
      hook[Symbol.dispose]();
      group.registerOnCompletionHook(() => {})[Symbol.dispose]();
      expect(group.hasHooks()).toBe(false);
    });
  });

  test("get copies: what they change has no effect on the op or the group", async () => {
    await onRank0(async (group) => {
      group.registerHook({
        pre: ({ inputs, outputs, globalRanks }) => {
          for (const list of [inputs, outputs, globalRanks] as unknown as unknown[][]) list.reverse().length = 0;
        },
      });
      const sum = one();
      const all = [one(), one()];
      await group.allReduce(sum);
      await group.allGather(all, new Float32Array([7]));
      await group.broadcast(sum, { src: 0 });
      expect([...sum, ...all.flatMap((each) => [...each])]).toEqual([2, 7, 7]);
    });
  });

  test("that an earlier one disposes of are not called any more, also for the op under way", async () => {
    const seen: string[] = [];
    await onRank0(async (group, rank) => {
      if (rank !== 0) return void (await group.allReduce(one()));
      const late = { pre: () => seen.push("pre"), post: () => seen.push("post"), abort: () => seen.push("abort") };
      const first = group.registerHook({ pre: () => byPre[Symbol.dispose](), post: () => byPost[Symbol.dispose]() });
      const byPre = group.registerHook(late);
      const byPost = group.registerHook({ post: late.post });
      await group.allReduce(one());
      first[Symbol.dispose]();
      group.registerHook({ abort: () => byAbort[Symbol.dispose]() });
      const byAbort = group.registerHook(late);
      group.abort();
    });
    expect(seen).toEqual([]);
  });

  test("that wait for pending works wait for all other hooks, but neither for themselves nor for each other", async () => {
    const ends: string[] = [];
    await onRank0(async (group, rank) => {
      const works = () => [group.allReduce(one()), group.barrier()];
      if (rank !== 0) return void (await Promise.all(works()));
      group.registerHook({ post: ({ op }) => Bun.sleep(op === "barrier" ? 60 : 0).then(() => ends.push("other")) });
      group.registerOnCompletionHook(async (_, { op }) => {
        await Bun.sleep(op === "barrier" ? 20 : 0);
        await group.waitForPendingWorks({ timeout: 5_000 });
        ends.push(op);
      });
      // Called in the hook itself, before its first await.
      group.registerHook({ pre: () => group.waitForPendingWorks({ timeout: 5_000 }).then(() => ends.push("pre")) });
      await Promise.all(works());
      await group.waitForPendingWorks({ timeout: 10_000 });
      ends.push("outside");
    });
    expect(ends.slice(0, 2)).toEqual(["other", "other"]);
    expect(ends.slice(2, -1).toSorted()).toEqual(["allReduce", "barrier", "pre", "pre"]);
    expect(ends.at(-1)).toBe("outside");
  });

  test("run when the status record has their op, which takes one turn", async () => {
    const folder = mkdtempSync(join(tmpdir(), "c10d-hooks-"));
    process.env.C10D_STATUS_DIR = folder;
    try {
      const place = { store: new dist.HashStore(), rank: 0, worldSize: 1 };
      await using group = await dist.initProcessGroup({ backend: "fake", ...place });
      const standing = () => {
        const [status] = readStatuses(folder);
        const turn = status?.groups.find(({ name }) => name === "0")?.turn;
        return [...(status?.inFlight ?? []).map(({ op, turn: own }) => `${op} ${own}`), turn];
      };
      const seen: unknown[] = [];
      using _ = group.registerHook({ pre: () => seen.push(standing()), post: () => seen.push("post") });
      await group.allReduce(one());
      await group.broadcastObject("a", { src: 0 });
      await group.coalescing(() => void group.barrier());
      expect(seen).toEqual([
        ...[["allReduce 1", 1], "post"],
        ...[["broadcastObject 2", 2], "post"],
        ...[["barrier 3", 3], "post", ["barrier 3", "coalescing 0", 3], "post"],
      ]);
      expect(standing()).toEqual([3]);
      expect(readStatuses(folder)[0]?.last).toMatchObject({ hasFailed: false });
    } finally {
      delete process.env.C10D_STATUS_DIR;
      rmSync(folder, { recursive: true });
    }
  });

  test("that never end do not hold waitForPendingWorks() forever", async () => {
    await onRank0(async (group, rank) => {
      await group.allReduce(one());
      if (rank !== 0) return;
      const stuck = group.registerHook({ post: () => new Promise(() => {}) });
      await group.allReduce(one(), { timeout: 20 }).catch(() => {});
      stuck[Symbol.dispose]();
      const error = await group.waitForPendingWorks({ timeout: 50 }).catch((thrown: dist.DistError) => thrown);
      expect(error).toMatchObject({ code: "PENDING_TIMEOUT", details: { group: "0", timeoutMs: 50 } } as never);
      expect(() => group.waitForPendingWorks({ timeout: -1 })).toThrow(dist.InvalidArgumentError);
      expect(() => group.waitForPendingWorks({ timeuot: 1 } as never)).toThrow(dist.InvalidArgumentError);
    });
  });

  test("hear of the failure of the group once, before the ops in flight end, with the error of the op", async () => {
    const events: unknown[] = [];
    await onRank0(async (group, rank) => {
      if (rank === 1) return await Bun.sleep(300);
      group.registerHook({
        abort: ({ group: name, rank: own, error }) => events.push([name, own, error?.code, second.isCompleted()]),
      });
      const first = group.allReduce(one(), { timeout: 30 });
      const second = group.barrier();
      await Promise.allSettled([first, second]);
      group.abort();
    });
    expect(events).toEqual([["0", 0, "OP_TIMEOUT", false]]);
  });

  test("are told of an abort by the user with its reason, and of no ordinary end", async () => {
    const events: unknown[] = [];
    for (const isAborted of [true, false]) {
      const group = await dist.initProcessGroup({
        backend: "fake",
        store: new dist.HashStore(),
        rank: 0,
        worldSize: 1,
      });
      group.registerHook({ abort: ({ reason, error }) => events.push([reason, error]) });
      if (isAborted) group.abort("enough");
      await group.close();
    }
    expect(events).toEqual([["enough", undefined]]);
  });

  test.each([
    ["nothing", undefined],
    ["no hook", {}],
    ["an unknown hook", { before: () => {} }],
    ["a hook that is no function", { pre: 1 }],
  ])("are refused: %s", async (_, hooks) => {
    await using group = await dist.initProcessGroup({
      backend: "fake",
      store: new dist.HashStore(),
      rank: 0,
      worldSize: 1,
    });
    expect(() => group.registerHook(hooks as never)).toThrow(dist.InvalidArgumentError);
    expect(() => group.registerOnCompletionHook(hooks as never)).toThrow(dist.InvalidArgumentError);
  });
});

describe("node:diagnostics_channel", () => {
  test("carries one message per op through its life, with the error of one that fails", async () => {
    const events: unknown[] = [];
    const messages = new Set<object>();
    const note = (name: string) => (message: unknown) => {
      const { rank, op, work, info, error } = message as never as Record<string, unknown>;
      if (rank !== 0) return;
      messages.add(message as object);
      events.push([name, op, work !== undefined, info !== undefined, (error as dist.DistError)?.code]);
    };
    const aborts: unknown[] = [];
    const onAbort = (message: unknown) => void aborts.push((message as { rank: number }).rank);
    const listeners = {
      start: note("start"),
      end: note("end"),
      asyncStart: note("asyncStart"),
      asyncEnd: note("asyncEnd"),
      error: note("error"),
    };
    const channel = tracingChannel("bun-c10d.op");
    channel.subscribe(listeners);
    subscribe("bun-c10d.group.abort", onAbort);
    try {
      await onRank0(async (group, rank) => {
        await group.barrier();
        if (rank === 0) await group.barrier({ timeout: 20 }).catch(() => {});
        else await Bun.sleep(200);
      });
    } finally {
      channel.unsubscribe(listeners);
      unsubscribe("bun-c10d.group.abort", onAbort);
    }
    expect(messages.size).toBe(2);
    expect(events).toEqual([
      ["start", "barrier", false, false, undefined],
      ["end", "barrier", true, false, undefined],
      ["asyncStart", "barrier", true, true, undefined],
      ["asyncEnd", "barrier", true, true, undefined],
      ["start", "barrier", false, false, undefined],
      ["end", "barrier", true, false, undefined],
      ["error", "barrier", true, true, "OP_TIMEOUT"],
      ["asyncStart", "barrier", true, true, "OP_TIMEOUT"],
      ["asyncEnd", "barrier", true, true, "OP_TIMEOUT"],
    ]);
    expect(aborts).toContain(0);
  });
});

test("a group without a logger warns of a hook that fails", async () => {
  const emitted = spyOn(process, "emitWarning").mockImplementation(() => {});
  try {
    const { GroupHooks } = await import("./group-hooks.ts");
    const hooks = new GroupHooks({ name: "g", rank: 0, globalRanks: [0] });
    hooks.register({
      abort: () => {
        throw new Error("no");
      },
    });
    hooks.aborting("over", undefined);
    expect(String(emitted.mock.calls[0]?.[0])).toContain("the abort hook of group");
  } finally {
    emitted.mockRestore();
  }
});
