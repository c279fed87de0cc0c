import { describe, expect, test } from "bun:test";
import * as dist from "../index.ts";
import { systemClock } from "../registry/index.ts";
import { ManualClock } from "./manual-clock.ts";
import { localRanks } from "./ranks/local-ranks.ts";

const HALF_AN_HOUR = 1_800_000;

describe("ManualClock", () => {
  test("calls what is due, in order of time, each at its own", () => {
    const clock = new ManualClock();
    const calls: [string, number][] = [];
    const note = (name: string) => () => void calls.push([name, clock.now()]);
    clock.schedule(20, note("later"));
    clock.schedule(10, () => {
      note("first")();
      clock.schedule(5, note("from within"));
      clock.schedule(500, note("too late"));
    });
    clock.schedule(15, note("disposed of"))[Symbol.dispose]();
    clock.schedule(Number.POSITIVE_INFINITY, note("never"));
    clock.advance(9);
    expect(calls).toEqual([]);
    clock.advance(11);
    expect(calls).toEqual([
      ["first", 10],
      ["from within", 15],
      ["later", 20],
    ]);
    expect([clock.now(), clock.pending]).toEqual([20, 2]);
  });

  test("never goes back, not even if a listener lets time pass", () => {
    const clock = new ManualClock();
    const seen: number[] = [];
    clock.schedule(10, () => clock.advance(100));
    clock.schedule(50, () => seen.push(clock.now()));
    clock.advance(20);
    expect([...seen, clock.now()]).toEqual([50, 110]);
  });

  test.each([-1, Number.NaN, Number.POSITIVE_INFINITY, "5s"])("cannot advance by %p", (ms) => {
    expect(() => new ManualClock().advance(ms as number)).toThrow("advance: ms must be a number of milliseconds");
  });

  test("an op of the fake backend times out when the clock says so, and names the missing rank", async () => {
    const clock = new ManualClock();
    const began = performance.now();
    const [error] = await localRanks(
      2,
      async ({ rank }) => {
        if (rank === 0) return await dist.barrier({ timeout: HALF_AN_HOUR }).catch((thrown: unknown) => thrown);
        clock.advance(HALF_AN_HOUR - 1);
        await Bun.sleep(5);
        clock.advance(1);
        return undefined;
      },
      { clock },
    );
    expect(error).toMatchObject({ code: "OP_TIMEOUT", details: { peers: [1], timeoutMs: HALF_AN_HOUR } });
    expect(performance.now() - began).toBeLessThan(5_000);
  });

  test("applies to a solo rank's delays and a destroyed group's limit, but not to another container", async () => {
    const clock = new ManualClock();
    const container = dist.createContainer();
    container.register(dist.CLOCK, { useValue: clock });
    const place = { backend: "fake", rank: 0, worldSize: 2, options: { mode: "solo", delayMs: HALF_AN_HOUR } } as const;
    const group = await dist.initProcessGroup({ ...place, store: new dist.HashStore(), container });
    const first = group.barrier({ timeout: 2 * HALF_AN_HOUR });
    const second = group.allReduce(Float32Array.of(1), { timeout: HALF_AN_HOUR / 2 });
    expect([first.isCompleted(), clock.pending]).toEqual([false, 2]);
    clock.advance(HALF_AN_HOUR / 2);
    expect(second.exception()).toMatchObject({ code: "OP_TIMEOUT" });
    await dist.destroyProcessGroup();

    // Its child sees the clock too; a sibling does not.
    const seen: dist.Clock[] = [];
    const create: dist.Middleware["create"] = (context) => {
      seen.push(context.clock);
      return (next) => next;
    };
    for (const each of [container.createChildContainer(), dist.createContainer()]) {
      each.register(dist.BACKEND_MIDDLEWARE, { useValue: { name: "clock", create } });
      await dist.initProcessGroup({ ...place, store: new dist.HashStore(), container: each });
      await dist.destroyProcessGroup();
    }
    expect(seen).toEqual([clock, systemClock]);

    // Ops in flight when a group is destroyed are limited by the group's time-out.
    await dist.initProcessGroup({ ...place, store: new dist.HashStore(), container, timeout: "10min" });
    const late = dist.barrier({ timeout: 4 * HALF_AN_HOUR });
    const destroyed = dist.destroyProcessGroup().catch((thrown: unknown) => thrown);
    while (clock.pending < 2) await Bun.sleep(1);
    clock.advance(600_000);
    expect(await destroyed).toBeInstanceOf(dist.DistError);
    expect(await late.catch((thrown: unknown) => thrown)).toMatchObject({ code: "ABORTED" });
  });

  test("applies to the limits of a MethodBackend", async () => {
    const clock = new ManualClock();
    class Silent extends dist.MethodBackend {
      override readonly name = "silent";
      override readonly capabilities = { ops: { barrier: [] }, reduceOps: {} };
      override barrier(): Promise<void> {
        return new Promise(() => {});
      }
    }
    const backend = new Silent(0, 2, clock);
    const [work] = backend.submit([dist.opCall("barrier", { type: "cpu", index: 0 }, [], [], HALF_AN_HOUR)]);
    clock.advance(HALF_AN_HOUR);
    expect(work?.exception()).toMatchObject({ code: "OP_TIMEOUT" });
    expect(backend.state).toBe("FAILED");
  });

  test("the system's clock accepts delays that its timers do not", async () => {
    const ends: string[] = [];
    const long = [2 ** 31, 2 ** 40, Number.POSITIVE_INFINITY].map((delay) =>
      systemClock.schedule(delay, () => ends.push("long")),
    );
    const { promise, resolve } = Promise.withResolvers<void>();
    systemClock.schedule(1, resolve);
    await promise;
    for (const timer of long) timer[Symbol.dispose]();
    expect(ends).toEqual([]);
  });
});
