import { describe, expect, test } from "bun:test";
import * as dist from "../../index.ts";
import { fakeInPlaceOf } from "../fake-in-place-of.ts";
import { ManualClock } from "../manual-clock.ts";
import { LocalRanksError, localRanks } from "./local-ranks.ts";

describe("localRanks", () => {
  test("gives each rank a default group of its own", async () => {
    const seen = await localRanks(3, async ({ rank, worldSize, group, store }) => {
      expect([dist.getRank(), dist.getWorldSize(), dist.getBackend()]).toEqual([rank, worldSize, "fake"]);
      await Bun.sleep(rank);
      expect(dist.getRank()).toBe(rank);
      await new Promise((resolve) => setTimeout(resolve, 3 - rank));
      expect(group.rank).toBe(dist.getRank());
      await dist.barrier();
      await store.add("seen", 1);
      return dist.getRank() * 10;
    });
    expect(seen).toEqual([0, 10, 20]);
    expect(dist.isInitialized()).toBe(false);
  });

  test("a listener of an op's end runs as the rank whose op it is", async () => {
    const seen = await localRanks(3, async ({ rank }) => {
      const ended: number[] = [];
      for (const timeout of [10_000, 20]) {
        // No other rank calls the second op of rank 0, and its failure ends what the others have in flight.
        const alone = timeout === 20 && rank > 0;
        const work = alone ? dist.recv(new Int8Array(1), { src: 0 }) : dist.barrier({ timeout });
        work.whenEnded(() => ended.push(dist.getRank()));
        await work.catch(() => {});
      }
      return ended;
    });
    expect(seen).toEqual([
      [0, 0],
      [1, 1],
      [2, 2],
    ]);
  });

  test("runs concurrently", async () => {
    const sums = await Promise.all(
      [1, 2, 3, 4].map((n) =>
        localRanks(n, async ({ rank }) => {
          const tensor = Int32Array.of(rank + 1);
          await dist.allReduce(tensor);
          return tensor[0];
        }),
      ),
    );
    expect(sums).toEqual([[1], [3, 3], [6, 6, 6], [10, 10, 10, 10]]);
  });

  test("a rank that throws makes the others fail; all are named, the cause first", async () => {
    const started = performance.now();
    const error = await localRanks(3, async ({ rank }) => {
      if (rank === 1) throw new RangeError("too warm");
      await dist.barrier();
    }).catch((thrown: unknown) => thrown);
    expect(performance.now() - started).toBeLessThan(5_000);
    if (!(error instanceof LocalRanksError)) throw new Error(`got ${String(error)}`);
    expect(error).toBeInstanceOf(AggregateError);
    expect(error.message).toStartWith("ranks 0, 1, 2 of 3 failed:\n  rank 1: too warm");
    expect(error.message).toContain("(fake, rank 0 of 3): rank 1: its function has failed: too warm\n");
    expect(error.failures[0]).toEqual({ rank: 1, error: new RangeError("too warm") });
    expect(error.cause).toBe(error.failures[0]?.error);
  });

  test("ranks that never end are named when the time is up, and the ops that they are in", async () => {
    const error = await localRanks(
      3,
      async ({ rank }) => {
        await dist.barrier();
        const pair = await dist.newGroup([0, 1]);
        if (rank === 2) throw new RangeError("too warm");
        if (rank === 1) await new Promise(() => {});
        await dist.allReduce(new Float32Array(1), { group: pair });
      },
      { timeout: 400 },
    ).catch((thrown: unknown) => thrown);
    if (!(error instanceof LocalRanksError)) throw new Error(`got ${String(error)}`);
    const lines = error.message.split("\n");
    expect(lines.slice(0, 2)).toEqual(["ranks 0, 1, 2 of 3 failed:", "  rank 2: too warm"]);
    expect(lines[2]).toMatch(
      /^ {2}rank 0: localRanks: rank 0 was still running after 400 ms: in allReduce #1 on group "1" \(fake\) for [\d.]+ s$/,
    );
    expect(lines[3]).toMatch(
      /^ {2}rank 1: .* still running after 400 ms: in no op; the last, barrier #1 on group "0" \(fake\), ended [\d.]+ s earlier$/,
    );
    expect(error.cause).toEqual(new RangeError("too warm"));
  });

  test("an error that is never handled is a failure", async () => {
    const error = await localRanks(2, async ({ rank, group }) => {
      if (rank === 0) return;
      void dist.send(new Int8Array(1), { dst: 0, timeout: 30 });
      await Bun.sleep(60);
      expect(group.state).toBe("FAILED");
    }).catch((thrown: unknown) => thrown);
    expect(String(error)).toContain("rank 1 of 2 failed");
  });

  test("makes groups with the contents of a container, and leaves nothing in it", async () => {
    const container = dist.createContainer();
    const ops: string[] = [];
    container.register(dist.BACKEND_MIDDLEWARE, {
      useValue: {
        name: "noting",
        create: () => (next) => (calls) => {
          ops.push(...calls.map(({ op }) => op));
          return next(calls);
        },
      },
    });
    const clock = new ManualClock();
    await localRanks(2, () => dist.barrier(), { container, clock, backend: fakeInPlaceOf("mine") });
    expect(ops).toEqual(["barrier", "barrier"]);
    expect(container.isRegistered(dist.CLOCK)).toBe(false);
    expect(container.resolve(dist.BACKEND_REGISTRY).has("mine")).toBe(false);
    expect(localRanks(1, () => 1, { container: {} as never })).rejects.toThrow("localRanks: container must be one");
  });

  test("refuses options that it does not know", async () => {
    const run = localRanks(1, () => 1, { clok: {} } as object);
    expect(run).rejects.toThrow(
      'localRanks: unknown option clok (known are timeout, backend, init, options, clock, container); did you mean "clock"?',
    );
    expect(localRanks(1, () => 1, null as never)).rejects.toThrow("localRanks: options must be an object, got null");
  });

  test("refuses invalid numbers of ranks, and a body that is not a function", async () => {
    expect(localRanks(0, () => 1)).rejects.toThrow(dist.InvalidArgumentError);
    const error = await localRanks(2, "./rank.ts" as never).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: "InvalidArgumentError", details: { argument: "body" } });
    expect(String(error)).toContain('got "./rank.ts"; files are run by workerRanks() and spawnRanks()');
  });

  test("says what to do if the body initializes too", async () => {
    const error = await localRanks(1, () => dist.initProcessGroup()).catch((thrown: unknown) => thrown);
    expect(String(error)).toContain("pass { init: false } to localRanks()");
  });
});
