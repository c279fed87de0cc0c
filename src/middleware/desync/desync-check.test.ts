import { describe, expect, test } from "bun:test";
import { DistError } from "../../errors/index.ts";
import * as dist from "../../index.ts";
import { localRanks } from "../../testing/index.ts";
import { desyncCheck } from "./desync-check.ts";

/** The check over a second group of the same backend. */
const check: dist.Middleware = {
  name: "check",
  async create(context) {
    return desyncCheck({ backend: await context.helperGroup(), foreign: [] }).create(context);
  },
};

/** What reaches the backend, per rank. */
async function run<T>(
  size: number,
  body: (rank: number, group: dist.ProcessGroup) => Promise<T>,
): Promise<{ readonly values: T[]; readonly batches: string[][][] }> {
  const batches: string[][][] = Array.from({ length: size }, () => []);
  const container = dist.createContainer();
  container.register(dist.BACKEND_MIDDLEWARE, { useValue: check });
  container.register<dist.Middleware>(dist.BACKEND_MIDDLEWARE, {
    useValue: {
      name: "seen",
      create:
        ({ rank }) =>
        (next) =>
        (calls) => {
          batches[rank]?.push(calls.map(({ op }) => op));
          return next(calls);
        },
    },
  });
  const values = await localRanks(size, ({ rank, group }) => body(rank, group), { container });
  return { values, batches };
}

const failure = (work: PromiseLike<unknown>): Promise<DistError> =>
  Promise.resolve(work).then(
    () => {
      throw new Error("it succeeded");
    },
    (error: DistError) => error,
  );

describe("desyncCheck", () => {
  test("lets equal collectives pass, in the order of the calls, each batch as one", async () => {
    const { values, batches } = await run(3, async (rank, group) => {
      const [a, b, c] = [0, 1, 2].map(() => Float32Array.of(rank + 1));
      const works = [group.allReduce(a as Float32Array), group.broadcast(b as Float32Array, { src: 2 })];
      const batch = group.coalescing(() => {
        void group.allReduce(c as Float32Array);
        void group.barrier();
      });
      await Promise.all([batch, ...works]);
      const objects = await group.allGatherObject({ rank });
      return [...[a, b, c].map((each) => each?.[0]), objects.length];
    });
    expect(values).toEqual(Array(3).fill([6, 3, 6, 3]));
    for (const each of batches) {
      expect(each.slice(0, 3)).toEqual([["allReduce"], ["broadcast"], ["allReduce", "barrier"]]);
    }
  });

  test("a mismatch names two ranks and their calls, nothing is sent, and the group goes on", async () => {
    const { values, batches } = await run(3, async (rank, group) => {
      const data = new Float32Array(4);
      const works = [
        group.allReduce(new Float32Array(rank === 1 ? 3 : 4)),
        // Called before the mismatch is known.
        group.allReduce(data.fill(1)),
      ] as const;
      const error = await failure(works[0]);
      await works[1];
      const second = await failure(rank === 2 ? group.barrier() : group.allReduce(data));
      await group.barrier();
      return { error, second, sum: data[3] };
    });
    for (const [rank, { error, second, sum }] of values.entries()) {
      expect(error).toBeInstanceOf(dist.DistBackendError);
      const other = rank === 1 ? 0 : 1;
      const details = { op: "allReduce", group: "0", rank, seq: 1, peers: [] };
      expect(error).toMatchObject({ code: "DESYNC", details });
      expect(error.details.calls?.map((each) => each.rank)).toEqual([rank, other]);
      expect(error.message).toStartWith(
        `allReduce #1 on group "0" (fake, rank ${rank} of 3): Detected mismatch between collectives on ranks. Rank ${rank} is running`,
      );
      const sizes = rank === 1 ? "3vs 4" : "4vs 3";
      expect(error.message).toContain(
        `.Collectives differ in the following aspects:   Tensor Tensor shapes: ${sizes}; called at `,
      );
      expect(error.message).toMatch(new RegExp(`at \\S+desync-check\\.test\\.ts:\\d+:\\d+ on rank ${rank}\\b`));
      expect(second.details).toMatchObject({ seq: 2, calls: [{ rank }, { rank: rank === 2 ? 0 : 2 }] });
      expect(second.message).toContain("SequenceNumber=1OpType=BARRIER");
      expect(sum).toBe(3);
      expect(batches[rank]).toEqual([["allReduce"], ["barrier"]]);
    }
  });

  test("in a batch, the call that differs is named", async () => {
    const { values, batches } = await run(2, (rank, group) =>
      failure(
        group.coalescing(() => {
          void group.broadcast(new Float32Array(2), { src: 0 });
          if (rank === 0) void group.reduce(new Float32Array(2), { dst: 0 });
          else void group.barrier();
        }),
      ),
    );
    expect(values[0]?.message).toContain(
      "Rank 0 is running collective: CollectiveFingerPrint(SequenceNumber=1, OpType=REDUCE",
    );
    for (const [rank, op] of ["reduce", "barrier"].entries()) {
      expect(values[rank]?.message).toStartWith(`${op} #2 on group "0" (fake, rank ${rank} of 2): Detected mismatch`);
      expect(values[rank]?.details).toMatchObject({ op, seq: 2 });
    }
    expect(values[1]?.message).toContain(
      "Rank 0 is running collective: CollectiveFingerPrint(SequenceNumber=1, OpType=REDUCE",
    );
    expect(batches).toEqual([[], []]);
  });

  test("a rank that alone refused a call is found out by the next", async () => {
    const { values } = await run(2, async (rank, group) => {
      if (rank === 0) await failure(group.broadcast(new Float32Array(1), { src: 9 }));
      return failure(group.barrier());
    });
    expect(values.map(({ code }) => code)).toEqual(["DESYNC", "DESYNC"]);
    expect(values[0]?.message).toContain("\t Sequence number: 1vs 0; called at ");
  });

  test("messages pass, also before the collective that the peer has not called yet", async () => {
    const { values } = await run(2, async (rank, group) => {
      const data = Float32Array.of(rank);
      if (rank === 0) {
        const sum = group.allReduce(Float32Array.of(1));
        await group.send(data, { dst: 1 });
        await sum;
      } else {
        await group.recv(data, { src: 0 });
        await group.allReduce(Float32Array.of(1));
      }
      return data[0];
    });
    expect(values).toEqual([0, 0]);
  });

  test("a missing rank is named within the time-out of the op, and the group fails", async () => {
    const { values } = await run(3, async (rank, group) => {
      if (rank === 2) {
        await Bun.sleep(1_000);
        return undefined;
      }
      const began = performance.now();
      const error = await failure(group.allReduce(new Float32Array(1), { timeout: 300 }));
      return { error, ms: performance.now() - began, after: await failure(group.barrier()) };
    });
    const [first, second] = values;
    expect(first?.error).toBeInstanceOf(DistError);
    expect(first?.error).toMatchObject({ code: "OP_TIMEOUT", details: { op: "allReduce", peers: [2] } });
    expect(first?.error.message).toStartWith(
      'allReduce #1 on group "0" (fake, rank 0 of 3): ProcessGroupWrapper: Monitored Barrier encountered error running collective: CollectiveFingerPrint(SequenceNumber=0, OpType=ALLREDUCE',
    );
    // The op of the helper group is not what the user called.
    expect(String(first?.error.cause)).toContain('barrier #1 on group "0/check/0" (fake, rank 0 of 3): timed out');
    expect(first?.error.message).toContain("Error: \ntimed out");
    expect(first?.ms).toBeLessThan(900);
    expect(first?.after.code).toBe("GROUP_FAILED");
    expect(["GROUP_FAILED", "PEER_LOST"]).toContain(second?.after.code ?? "");
  });

  test("an op that waits for the check of another one keeps its own time-out", async () => {
    const { values } = await run(2, async (rank, group) => {
      if (rank === 1) {
        await Bun.sleep(2_000);
        return undefined;
      }
      const began = performance.now();
      const first = failure(group.allReduce(new Float32Array(1), { timeout: "20s" }));
      const error = await failure(group.barrier({ timeout: 200 }));
      return { error, first: await first, ms: performance.now() - began };
    });
    expect(values[0]?.error).toMatchObject({ code: "OP_TIMEOUT", details: { op: "barrier" } });
    // Here the ranks share a process: rank 1 has closed its helper group when rank 0 comes to close its own.
    expect(["ABORTED", "PEER_LOST"]).toContain(values[0]?.first.code ?? "");
    expect(values[0]?.ms).toBeLessThan(1_900);
  });

  test("works are numbered when they are called, and one that is not sent takes no number", async () => {
    const { values } = await run(2, async (rank, group) => {
      const works = [1, 2, 3].map(() => group.allReduce(new Float32Array(1)));
      const before = works.map(({ seq }) => seq);
      await Promise.all(works);
      const error = await failure(rank === 0 ? group.barrier() : group.allReduce(new Float32Array(1)));
      const next = group.barrier();
      await next;
      return [...before, error.details.seq, next.seq];
    });
    expect(values).toEqual(Array(2).fill([1, 2, 3, 4, 4]));
  });

  test("abort ends an op whose check is under way", async () => {
    const { values } = await run(2, async (rank, group) => {
      if (rank === 1) {
        await Bun.sleep(500);
        return undefined;
      }
      const error = failure(group.allReduce(new Float32Array(1)));
      await Bun.sleep(20);
      group.abort("that is enough");
      return error;
    });
    expect(["ABORTED", "PEER_LOST"]).toContain(values[0]?.code ?? "");
    expect(values[0]?.message).toContain("that is enough");
  });

  test.each([
    ["is closed", false],
    ["is aborted", true],
  ])("without ops in flight, a group that %s aborts the second group: %p", async (_, isAborted) => {
    const aborts: string[] = [];
    const container = dist.createContainer();
    container.register<dist.Middleware>(dist.BACKEND_MIDDLEWARE, {
      useValue: {
        name: "watched check",
        async create(context) {
          const backend = await context.helperGroup();
          const abort = backend.abort.bind(backend);
          backend.abort = (reason) => {
            aborts.push(reason);
            abort(reason);
          };
          return desyncCheck({ backend, foreign: [] }).create(context);
        },
      },
    });
    const ended = await localRanks(
      1,
      async ({ group }) => {
        await group.barrier();
        if (isAborted) group.abort("that is enough");
        await group.close();
        return group.state;
      },
      { container },
    );
    expect(ended).toEqual(["CLOSED"]);
    expect(aborts.length > 0).toBe(isAborted);
  });
});
