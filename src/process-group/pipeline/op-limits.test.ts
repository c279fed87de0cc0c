import { afterEach, describe, expect, test } from "bun:test";
import { type OpCall, OpType, opTypeOf } from "../../collectives/index.ts";
import * as dist from "../../distributed/index.ts";
import { type DistError, DistNetworkError, DistTimeoutError } from "../../errors/index.ts";
import {
  BACKEND_MIDDLEWARE,
  Backend,
  type BackendContext,
  BackendType,
  type Capabilities,
  CLOCK,
  createContainer,
  MethodBackend,
  type Middleware,
} from "../../registry/index.ts";
import { HashStore } from "../../store/index.ts";
import { ManualClock } from "../../testing/manual-clock.ts";
import { Work } from "../../work/index.ts";
import type { ProcessGroup } from "../process-group.ts";
import { isGuardError } from "./op-limits.ts";

afterEach(async () => {
  if (dist.isInitialized()) await dist.destroyProcessGroup().catch(() => {});
});

const capabilities: Capabilities = {
  ops: { allReduce: ["float32"], barrier: [], send: ["float32"] },
  reduceOps: { float32: ["SUM"] },
};

/** A Work that never ends, whose `block` respects the time limit passed to it. */
class Unending extends Work<void> {
  protected override block(limitMs: number): void {
    Bun.sleepSync(Math.min(limitMs, 10_000));
    throw this.waitTimeout(limitMs);
  }
}

/** A backend that never ends an op, and records its calls. */
class Hanging extends Backend {
  override readonly name = "hanging";
  override readonly capabilities = capabilities;
  readonly works: Work<void>[] = [];
  readonly aborts: string[] = [];
  onAbort: (reason: string) => unknown = () => {};

  override submit(calls: readonly OpCall[]): readonly Work<void>[] {
    const works = calls.map((call) => new Unending({ opType: opTypeOf(call) }));
    this.works.push(...works);
    return works;
  }

  // By its type it returns nothing, but plain JavaScript may.
  override readonly abort: (reason: string) => void = (reason) => {
    this.aborts.push(reason);
    return this.onAbort(reason);
  };
}

interface Terms {
  readonly clock?: ManualClock;
  readonly middleware?: Middleware;
  readonly make?: (context: BackendContext) => Backend;
}

async function start({ clock, middleware, make }: Terms = {}): Promise<{ group: ProcessGroup; backend: Hanging }> {
  let backend: Backend | undefined;
  const container = createContainer({
    overrides: [
      {
        name: "hanging",
        type: BackendType.CUSTOM,
        sdk: 2,
        devices: ["cpu"],
        bootstrap: "store",
        capabilities,
        probe: async () => ({ available: true, version: "1" }),
        create: async (context) => {
          backend = make?.(context) ?? new Hanging(context.rank, context.size);
          return backend;
        },
      },
    ],
  });
  if (clock !== undefined) container.register(CLOCK, { useValue: clock });
  if (middleware !== undefined) container.register(BACKEND_MIDDLEWARE, { useValue: middleware });
  const place = { store: new HashStore(), rank: 0, worldSize: 2, container };
  const group = await dist.initProcessGroup({ backend: "hanging", ...place });
  return { group, backend: backend as Hanging };
}

const ended = async (work: Work<unknown>): Promise<DistError> =>
  (await work.then(
    () => undefined,
    (error: unknown) => error,
  )) as DistError;
const floats = () => new Float32Array(1);

describe("an op that its backend does not end", () => {
  test("fails a second after its time-out, and its group with it", async () => {
    const { group, backend } = await start();
    const began = performance.now();
    const error = await ended(group.allReduce(floats(), { timeout: 50 }));
    const took = performance.now() - began;
    expect(error).toBeInstanceOf(DistTimeoutError);
    expect(error).toMatchObject({
      code: "OP_TIMEOUT",
      details: { backend: "hanging", group: "0", op: "allReduce", seq: 1, rank: 0, timeoutMs: 50 },
    });
    expect(error.message).toStartWith(
      'allReduce #1 (hanging, group "0", rank 0 of 2): timed out after 50 ms, and neither',
    );
    expect(isGuardError(error)).toBe(true);
    expect([took > 1_000, took < 4_000]).toEqual([true, true]);
    expect([group.state, backend.aborts]).toEqual(["FAILED", [error.message]]);
    expect(await ended(group.barrier())).toMatchObject({ code: "GROUP_FAILED", cause: error });
  });

  test("so does one that is waited for, if its block() respects the time limit passed to it", async () => {
    const { group, backend } = await start();
    const work = group.allReduce(floats(), { timeout: 50 });
    const began = performance.now();
    expect(() => work.wait()).toThrow("timed out after 50 ms, and neither");
    expect(performance.now() - began).toBeGreaterThan(1_000);
    expect(work.exception()).toMatchObject({ code: "OP_TIMEOUT", details: { seq: 1 } });
    expect([group.state, backend.aborts.length]).toEqual(["FAILED", 1]);
  });

  describe("whose block() returns although it has not ended", () => {
    class Returning extends Work<void> {
      static blockMs: number | undefined;
      protected override block(limitMs: number): void {
        Bun.sleepSync(Returning.blockMs ?? limitMs);
      }
    }
    class Lax extends Hanging {
      override submit(calls: readonly OpCall[]): readonly Work<void>[] {
        return calls.map((call) => new Returning({ opType: opTypeOf(call) }));
      }
    }
    const make = ({ rank, size }: BackendContext) => new Lax(rank, size);

    test("when the time is up: the op has timed out, or the wait", async () => {
      Returning.blockMs = undefined;
      const { group } = await start({ make });
      expect(() => group.allReduce(floats(), { timeout: 50 }).wait({ timeout: 20 })).toThrow("waited 20 ms");
      const work = group.allReduce(floats(), { timeout: 50 });
      expect(() => work.wait()).toThrow("allReduce #2 (hanging");
      expect([work.exception()?.code, group.state]).toEqual(["OP_TIMEOUT", "FAILED"]);
    });

    test("before that: it is reported immediately, and the op continues", async () => {
      Returning.blockMs = 0;
      const { group } = await start({ make });
      const work = group.allReduce(floats(), { timeout: 60_000 });
      expect(() => work.wait()).toThrow("its Work stopped blocking before the op ended; await it");
      expect([work.isCompleted(), group.state]).toEqual([false, "OPEN"]);
      await group.close();
      expect(await ended(work)).toMatchObject({ code: "ABORTED" });
    });
  });

  test("as a part of a batch and of an op of several steps, too", async () => {
    const { group } = await start();
    const whole = group.coalescing(() => {
      group.allReduce(floats(), { timeout: 20 });
      group.barrier({ timeout: 20 });
    });
    expect(() => whole.wait()).toThrow("allReduce #1 (hanging");
    await dist.destroyProcessGroup().catch(() => {});
    const { group: other } = await start();
    expect(await ended(other.broadcastObject([1], { src: 0, timeout: 30 }))).toBeInstanceOf(Error);
    expect(await ended(other.allReduce([floats(), floats()], { timeout: 20 }))).toMatchObject({ code: "OP_TIMEOUT" });
  });

  test("the time-out of wait() only ends the wait", async () => {
    const { group } = await start();
    const work = group.allReduce(floats(), { timeout: 5_000 });
    expect(() => work.wait({ timeout: 20 })).toThrow("waited 20 ms; the op is still pending");
    expect([work.isCompleted(), group.state]).toEqual([false, "OPEN"]);
    group.abort("enough");
  });

  test("each by its own time-out, by the clock of the container, with one timer for all", async () => {
    const clock = new ManualClock();
    const { group, backend } = await start({ clock });
    const works = [60_000, 600_000, 30_000].map((timeout) => group.allReduce(floats(), { timeout }));
    expect(clock.pending).toBe(1);
    backend.works[2]?.settle();
    clock.advance(31_000);
    await Bun.sleep(30);
    expect(works.map((work) => work.isCompleted())).toEqual([false, false, true]);
    // All in one task: what settles before the next turn still counts.
    clock.advance(60_000);
    backend.works[0]?.settle();
    await Bun.sleep(30);
    expect([works[0]?.isSuccess(), group.state, clock.pending]).toEqual([true, "OPEN", 1]);
    clock.advance(600_000);
    expect(await ended(works[1] as Work<unknown>)).toMatchObject({
      code: "OP_TIMEOUT",
      details: { seq: 2, timeoutMs: 600_000 },
    });
    expect(clock.pending).toBe(0);
  });

  test("messages and collectives are numbered separately; an op without a time-out never times out", async () => {
    const clock = new ManualClock();
    const { group } = await start({ clock });
    void group.allReduce(floats(), { timeout: "1h" });
    const message = group.send(floats(), { dst: 1, timeout: "10min" });
    const endless = group.barrier({ timeout: Number.POSITIVE_INFINITY });
    clock.advance(601_000);
    expect(await ended(message)).toMatchObject({ code: "OP_TIMEOUT", details: { op: "send", seq: 1 } });
    // The group has failed, so it still ends: a second later, in real time.
    expect(await ended(endless)).toMatchObject({ code: "ABORTED", details: { op: "barrier", seq: 2 } });
  });

  test("a Work that ends in time leaves nothing behind", async () => {
    const clock = new ManualClock();
    const { group, backend } = await start({ clock });
    for (let i = 0; i < 100; i++) {
      const work = group.allReduce(floats());
      backend.works[i]?.settle();
      await work;
    }
    expect(clock.pending).toBe(0);
  });

  test("keeps the process alive until its time-out, and no longer than the op", async () => {
    const script = (end: string) => `
      import * as dist from ${JSON.stringify(new URL("../../index.ts", import.meta.url).pathname)};
      class Never extends dist.Work { block() {} }
      class Hanging extends dist.Backend {
        name = "hanging"; capabilities = { ops: { barrier: [] }, reduceOps: {} };
        submit = (calls) => calls.map(() => { const work = new Never({ opType: dist.OpType.BARRIER }); ${end}; return work; });
      }
      dist.registerBackend({ name: "hanging", type: dist.BackendType.CUSTOM, sdk: 2, devices: ["cpu"], bootstrap: "store",
        capabilities: { ops: { barrier: [] }, reduceOps: {} }, probe: async () => ({ available: true, version: "1" }),
        create: async ({ rank, size }) => new Hanging(rank, size) });
      const group = await dist.initProcessGroup({ backend: "hanging", store: new dist.HashStore(), rank: 0, worldSize: 1 });
      console.log(await group.barrier({ timeout: ${end === "" ? 100 : 1_800_000} }).then(() => "ended", (e) => e.code));`;
    const outputs = ["", "setTimeout(() => work.settle(), 10)"].map(async (end) => {
      const child = Bun.spawn([process.execPath, "-e", script(end)], {
        stdout: "pipe",
        stderr: "pipe",
        timeout: 20_000,
      });
      return [await child.exited, (await new Response(child.stdout).text()).trim()];
    });
    expect(await Promise.all(outputs)).toEqual([
      [0, "OP_TIMEOUT"],
      [0, "ended"],
    ]);
  }, 30_000);

  test("a backend with its own time-outs comes first", async () => {
    class Late extends MethodBackend {
      override readonly name = "hanging";
      override readonly capabilities = capabilities;
      override barrier(): Promise<void> {
        return new Promise(() => {});
      }
      override allReduce(): Work<void> {
        return new Unending({ opType: OpType.ALLREDUCE });
      }
    }
    const make = ({ rank, size, clock }: BackendContext) => new Late(rank, size, clock);
    for (const end of [
      (group: ProcessGroup) => ended(group.barrier({ timeout: 50 })),
      // Its timer cannot fire meanwhile.
      async (group: ProcessGroup) => {
        const work = group.allReduce(floats(), { timeout: 50 });
        expect(() => work.wait()).toThrow("timed out after 50 ms");
        return work.exception() as DistError;
      },
    ]) {
      const { group } = await start({ make });
      const began = performance.now();
      const error = await end(group);
      expect([error.code, isGuardError(error), performance.now() - began < 1_000]).toEqual(["OP_TIMEOUT", false, true]);
      expect(group.state).toBe("FAILED");
      await dist.destroyProcessGroup();
    }
  });

  test("a busy thread does not cause a time-out", async () => {
    const { group, backend } = await start();
    const work = group.allReduce(floats(), { timeout: 20 });
    await Bun.sleep(1);
    const arrived = Promise.withResolvers<void>();
    // What arrived meanwhile is read after the timers: a second later at most.
    const child = Bun.spawn(["true"], { onExit: () => arrived.resolve() });
    Bun.sleepSync(1_500);
    await Promise.all([child.exited, arrived.promise]);
    for (const each of backend.works) each.settle();
    await work;
    expect(group.state).toBe("OPEN");
  });
});

describe("a Work of a middleware that never ends", () => {
  const holding: Middleware = {
    name: "holding",
    create: () => () => (calls) => calls.map((call) => new Unending({ opType: opTypeOf(call) })),
  };

  test("fails with its group, on a backend with its own time-outs", async () => {
    const container = createContainer();
    container.register(BACKEND_MIDDLEWARE, { useValue: holding });
    const place = { store: new HashStore(), rank: 0, worldSize: 1, container };
    const group = await dist.initProcessGroup({ backend: "fake", ...place });
    const error = await ended(group.allReduce(floats(), { timeout: 30 }));
    expect(error).toMatchObject({
      code: "OP_TIMEOUT",
      details: { backend: "fake", group: "0", op: "allReduce", seq: 1 },
    });
    expect(group.state).toBe("FAILED");
  });

  test("ends when its backend has failed, even if its op has no time-out", async () => {
    const held: Work<void>[] = [];
    const keeping: Middleware = {
      name: "keeping",
      create: () => (next) => (calls) => {
        if (calls[0]?.op !== "barrier") return next(calls);
        held.push(new Unending({ opType: opTypeOf(calls[0]) }));
        return held;
      },
    };
    const container = createContainer();
    container.register(BACKEND_MIDDLEWARE, { useValue: keeping });
    const place = { store: new HashStore(), rank: 0, worldSize: 2, container };
    const group = await dist.initProcessGroup({
      backend: "fake",
      options: { mode: "solo", delayMs: 60_000 },
      ...place,
    });
    const work = group.barrier({ timeout: Number.POSITIVE_INFINITY });
    expect(await ended(group.allReduce(floats(), { timeout: 20 }))).toMatchObject({ code: "OP_TIMEOUT" });
    const began = performance.now();
    expect(await ended(work)).toMatchObject({ code: "ABORTED", details: { op: "barrier" } });
    expect(performance.now() - began).toBeGreaterThan(4_000);
  });

  test("one that is passed on is not watched", async () => {
    const clock = new ManualClock();
    const passing: Middleware = { name: "passing", create: () => (next) => (calls) => next(calls) };
    const { group, backend } = await start({ clock, middleware: passing });
    void group.barrier();
    // A backend without time-outs needs the timer, one with time-outs needs none.
    expect(clock.pending).toBe(1);
    backend.works[0]?.settle();
    expect(clock.pending).toBe(0);
  });
});

describe("abort() of a backend", () => {
  const misbehaviours: readonly [string, (reason: string) => unknown, boolean][] = [
    ["does nothing", () => {}, false],
    [
      "throws",
      () => {
        throw new Error("stuck");
      },
      true,
    ],
    ["rejects", () => Promise.reject(new Error("stuck")), false],
    ["hangs", () => new Promise(() => {}), false],
  ];
  for (const [what, onAbort, isThrown] of misbehaviours) {
    test(`that ${what} does not keep ops pending, nor the group open`, async () => {
      const { group, backend } = await start();
      backend.onAbort = onAbort;
      const works = [group.allReduce(floats()), group.barrier({ timeout: Number.POSITIVE_INFINITY })];
      const began = performance.now();
      if (isThrown) expect(() => group.abort("enough")).toThrow("stuck");
      else group.abort("enough");
      expect(group.state).toBe("FAILED");
      expect(await ended(group.barrier())).toMatchObject({ code: "GROUP_FAILED" });
      for (const work of works) {
        const error = await ended(work);
        expect([
          error.code,
          error.message.includes("enough. Neither the backend nor its middleware ended the op"),
        ]).toEqual(["ABORTED", true]);
      }
      expect(performance.now() - began).toBeLessThan(4_000);
      await dist.destroyProcessGroup();
    });
  }

  test("an op that a backend ends itself after an abort has the backend's error", async () => {
    const { group, backend } = await start();
    const own = new DistNetworkError("rank 1 is gone", { code: "PEER_LOST", peers: [1] });
    backend.onAbort = () =>
      setTimeout(() => {
        for (const work of backend.works) work.settle(own);
      }, 100);
    const work = group.barrier();
    group.abort("enough");
    expect(await ended(work)).toBe(own);
  });

  test("close() ends ops in flight, too, a second later", async () => {
    const { group } = await start();
    const work = group.barrier();
    await group.close();
    expect(group.state).toBe("CLOSED");
    expect(await ended(work)).toMatchObject({ code: "ABORTED" });
  });
});

describe("an op in whose submit() the group ends", () => {
  const ends: readonly [string, (group: ProcessGroup, backend: Breaking) => unknown, string, number][] = [
    ["is aborted", (group) => group.abort("enough"), "enough", 1_000],
    ["is closed", (group) => group.close(), "the group was closed while the op was in flight", 1_000],
    ["fails", (_, backend) => backend.lose("its card is gone"), "its card is gone", 5_000],
  ];
  class Breaking extends Hanging {
    onSubmit = () => {};

    override submit(calls: readonly OpCall[]): readonly Work<void>[] {
      this.onSubmit();
      return super.submit(calls);
    }

    lose(reason: string): void {
      this.announceFailure(reason);
    }
  }
  const breaking = async () => {
    const made: Breaking[] = [];
    const { group } = await start({
      make: ({ rank, size }) => {
        const backend = new Breaking(rank, size);
        made.push(backend);
        return backend;
      },
    });
    const [backend] = made;
    if (backend === undefined) throw new Error("no backend");
    return { group, backend };
  };

  for (const [what, end, reason, afterMs] of ends) {
    test(`and ${what}: it ends like those in flight, even without a time-out`, async () => {
      const { group, backend } = await breaking();
      backend.onSubmit = () => void end(group, backend);
      const began = performance.now();
      const error = await ended(group.allReduce(floats(), { timeout: Number.POSITIVE_INFINITY }));
      expect([error.code, error.message]).toEqual([
        "ABORTED",
        `allReduce #1 (hanging, group "0", rank 0 of 2): ${reason}. Neither the backend nor its middleware ended the op within ${afterMs} ms after that`,
      ]);
      expect(performance.now() - began).toBeGreaterThan(afterMs - 10);
    });
  }

  test("of a batch: all of them together", async () => {
    const { group, backend } = await breaking();
    backend.onSubmit = () => group.abort("enough");
    const parts: Work<unknown>[] = [];
    const whole = group.coalescing(() => {
      parts.push(group.allReduce(floats(), { timeout: "1h" }), group.send(floats(), { dst: 1, timeout: "1h" }));
    });
    for (const work of [whole, ...parts]) expect(await ended(work)).toMatchObject({ code: "ABORTED" });
    expect(group.inFlight).toBe(0);
  });

  test("ends in wait(), too, with the same error", async () => {
    const { group, backend } = await breaking();
    backend.onSubmit = () => group.abort("enough");
    const work = group.allReduce(floats(), { timeout: "1h" });
    const began = performance.now();
    expect(() => work.wait()).toThrow("enough. Neither the backend nor its middleware ended the op");
    expect(performance.now() - began).toBeLessThan(4_000);
    expect(work.exception()).toMatchObject({ code: "ABORTED" });
  });
});

test("wait() for an op in flight ends when its group is aborted, not at the time-out of the op", async () => {
  const { group } = await start();
  const work = group.allReduce(floats(), { timeout: Number.POSITIVE_INFINITY });
  group.abort("enough");
  expect(() => work.wait()).toThrow("enough. Neither the backend nor its middleware ended the op");
  expect(work.exception()).toMatchObject({ code: "ABORTED" });
});
