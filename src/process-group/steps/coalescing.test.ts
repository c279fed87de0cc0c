import { describe, expect, test } from "bun:test";
import { tensorsOf } from "../../collectives/index.ts";
import { messageOf } from "../../errors/index.ts";
import * as dist from "../../index.ts";
import { localRanks } from "../../testing/index.ts";
import { everyOp, memoryPlugin } from "../fixtures/memory-backend.ts";

const reducing = memoryPlugin("recording", {
  capabilities: {
    ...everyOp,
    ops: { ...everyOp.ops, allReduce: ["float32", "int32"], allReduceCoalesced: ["float32"] },
  },
});

/** The message with which a Work, or another awaitable, fails. */
async function failureOf(work: PromiseLike<unknown> | undefined): Promise<string> {
  try {
    await work;
  } catch (error) {
    return messageOf(error);
  }
  throw new Error("it did not fail");
}

/** A group of one rank whose backend records its calls. */
async function recording<T>(body: (group: dist.ProcessGroup) => T | Promise<T>): Promise<string[]> {
  await localRanks(1, async ({ group }) => body(group), { backend: reducing });
  const backend = reducing.made.at(-1);
  return backend?.calls.map((call) => `${call.op} ${tensorsOf(call).map(({ length }) => length)}`) ?? [];
}

const floats = (length: number) => new Float32Array(length).fill(1);

describe("coalescing", () => {
  test("adjacent ops of one kind are merged, and the others keep their order", async () => {
    const calls = await recording(async (group) => {
      const tensors = [1, 2, 3, 4].map(floats);
      const [a = floats(0), b = floats(0), c = floats(0), d = floats(0)] = tensors;
      const works: dist.Work<unknown>[] = [];
      const whole = group.coalescing(() => {
        works.push(group.allReduce(a), group.allReduce(b), group.allReduce(c, { op: dist.ReduceOp.MAX }));
        works.push(group.allReduce(new Int32Array(5)), group.allReduce(new Int32Array(6)), group.allReduce(d));
        expect(() => works[0]?.wait()).toThrow("wait for the Work of coalescing()");
      });
      expect(whole.opType).toBe(dist.OpType.COALESCED);
      await whole;
      expect(works.map((work) => work.isSuccess())).toEqual(works.map(() => true));
      expect(works[1]?.result()).toBe(b);
    });
    expect(calls).toEqual(["allReduceCoalesced 1,2", "allReduce 3", "allReduce 5", "allReduce 6", "allReduce 4"]);
  });

  test("when an op is refused or the function throws, nothing is sent", async () => {
    const calls = await recording(async (group) => {
      const works: dist.Work<unknown>[] = [];
      const refused = group.coalescing(() => {
        works.push(group.allReduce(floats(1)), group.allReduce(new Float64Array(1)));
      });
      expect(await failureOf(refused)).toContain("does not take float64 tensors");
      expect(await failureOf(works[0])).toContain("does not take float64 tensors");
      const sparse = dist.sparseTensor({ indices: [[0]], values: floats(1), shape: [1] });
      const stepwise = group.coalescing(() => {
        works.push(group.allReduce(floats(1)));
        group.allReduce(sparse).catch(() => {});
      });
      expect(await failureOf(stepwise)).toContain("an op of several steps cannot be coalesced");
      expect(await failureOf(works.at(-1))).toContain("an op of several steps cannot be coalesced");
      const shared = floats(1);
      const overlapping = group.coalescing(() => {
        works.push(group.allReduce(shared), group.allReduce(shared.subarray(0)));
      });
      for (const work of [overlapping, works.at(-1)]) {
        expect(await failureOf(work)).toContain("op 0 (allReduce) and op 1 (allReduce) overlap by 4 bytes");
      }
      const thrown = group.coalescing(() => {
        group.allReduce(floats(1));
        throw new Error("changed my mind");
      });
      expect(await failureOf(thrown)).toContain("changed my mind");
      const late = group.coalescing(async () => {
        group.allReduce(floats(1));
      });
      expect(await failureOf(late)).toContain("must not be async");
      const stepped = group.coalescing(function* () {
        yield group.allReduce(floats(1));
      } as () => void);
      expect(await failureOf(stepped)).toContain("must not be a generator");
      const nested = group.coalescing(() => {
        group.allReduce(floats(1));
        works.push(group.coalescing(() => {}));
      });
      for (const work of [nested, works.at(-1)]) expect(await failureOf(work)).toContain("cannot be nested");
      const batch = group.coalescing(() => {
        works.push(...group.batchIsendIrecv([{ op: group.isend, tensor: floats(1), groupPeer: 0 }]));
      });
      for (const work of [batch, works.at(-1)]) expect(await failureOf(work)).toContain("cannot be nested");
      expect(await failureOf(group.coalescing(undefined as unknown as () => void))).toContain(
        "body must be a function",
      );
    });
    expect(calls).toEqual([]);
  });

  test("merged ops each have their own result, also when waited for", async () => {
    await recording((group) => {
      const [a, b] = [floats(1), floats(2)];
      const works: dist.Work<Float32Array>[] = [];
      group.coalescing(() => void works.push(group.allReduce(a), group.allReduce(b)));
      for (const work of works) work.wait();
      expect(works.map((work) => work.result())).toEqual([a, b]);
      expect(works[0]?.result()).toBe(a);
    });
  });

  test("a backend whose submit() throws ends all ops of the batch", async () => {
    const calls = await recording(async (group) => {
      const backend = reducing.made.at(-1);
      if (backend === undefined) throw new Error("no backend");
      const { submit } = backend;
      backend.submit = (): never => {
        throw new Error("not today");
      };
      const works: dist.Work<unknown>[] = [];
      const whole = group.coalescing(() => {
        works.push(group.allReduce(floats(1)), group.allReduce(floats(1)), group.reduce(floats(1), { dst: 0 }));
      });
      const message = 'group "0": submit() of backend "recording" for allReduce failed: not today';
      for (const work of [whole, ...works]) expect(await failureOf(work)).toBe(message);
      backend.submit = submit;
      expect(await group.monitoredBarrier()).toBeUndefined();
    });
    expect(calls).toEqual(["monitoredBarrier "]);
  });

  test("ops of a group that closes before their turn end, too", async () => {
    await localRanks(2, async ({ rank }) => {
      const group = await dist.newGroup();
      if (group === null) throw new Error("no member");
      const object = group.allGatherObject(rank);
      const works: dist.Work<unknown>[] = [];
      const whole = group.coalescing(() => void works.push(group.allReduce(floats(1))));
      await group.close();
      for (const work of [object, whole, ...works]) expect(await failureOf(work)).toContain("closed");
    });
  });

  test("the results equal those of single ops", async () => {
    await localRanks(3, async ({ rank, worldSize }) => {
      const sums = [1, 2, 3].map((length) => floats(length).fill(rank));
      const [whole, again] = [floats(2 * worldSize), floats(2 * worldSize)];
      const own = floats(2).fill(rank);
      const share = floats(1);
      await dist.coalescing(() => {
        for (const each of sums) dist.allReduce(each);
        dist.allGatherIntoTensor(whole, own);
        dist.allGatherIntoTensor(again, own);
        dist.reduceScatterTensor(share, floats(worldSize).fill(rank));
        dist.barrier();
      });
      expect(sums).toEqual([1, 2, 3].map((length) => floats(length).fill(3)));
      for (const each of [whole, again]) expect([...each]).toEqual([0, 0, 1, 1, 2, 2]);
      expect([...share]).toEqual([3]);
    });
  });
});

describe("lists", () => {
  test("allGatherIntoTensor and reduceScatterTensor take lists", async () => {
    await localRanks(2, async ({ rank }) => {
      const outputs = [floats(2), floats(4)];
      expect(await dist.allGatherIntoTensor(outputs, [floats(1).fill(rank), floats(2).fill(rank + 5)])).toEqual(
        outputs,
      );
      expect(outputs.map((output) => [...output])).toEqual([
        [0, 1],
        [5, 5, 6, 6],
      ]);
      const shares = [floats(1), floats(2)];
      await dist.reduceScatterTensor(shares, [Float32Array.of(1, 2), Float32Array.of(1, 2, 3, 4)]);
      expect(shares.map((share) => [...share])).toEqual(rank === 0 ? [[2], [2, 4]] : [[4], [6, 8]]);
    });
  });

  test("a backend without lists gets tensors one by one; invalid lists are refused", async () => {
    const calls = await recording(async (group) => {
      const outputs = [floats(1), floats(2)];
      expect(await group.allGatherIntoTensor(outputs, [floats(1), floats(2)])).toBe(outputs);
      await group.reduceScatterTensor([floats(1)], [floats(1)]);
      const bad: [readonly Float32Array[], unknown, string][] = [
        [[floats(1)], [floats(1), floats(1)], "must have the same length: 1 and 2 tensors"],
        [[], [], "outputs is an empty list"],
        [[floats(3)], [floats(2)], "outputs[0]"],
        [[floats(3)], floats(3), "inputs must be an array of tensors"],
      ];
      for (const [wholes, parts, message] of bad) {
        expect(await failureOf(group.allGatherIntoTensor(wholes, parts as Float32Array[]))).toContain(message);
      }
    });
    expect(calls).toEqual(["allGatherIntoTensor 1,1", "allGatherIntoTensor 2,2", "reduceScatterTensor 1,1"]);
  });
});

describe("failures of ops that are submitted together", () => {
  /** The process warnings of `body`, and the error of `destroyProcessGroup()` after it. */
  async function reportsOf(body: (group: dist.ProcessGroup) => unknown): Promise<string[]> {
    const reports: string[] = [];
    const note = (warning: Error) => reports.push(`warning: ${warning.message}`);
    process.on("warning", note);
    try {
      await localRanks(
        1,
        async ({ store }) => {
          const group = await dist.initProcessGroup({ backend: "fake", store, rank: 0, worldSize: 1 });
          await body(group);
          await Bun.sleep(5);
          await dist.destroyProcessGroup().catch((error: Error) => reports.push(error.message));
        },
        { init: false },
      );
    } finally {
      process.off("warning", note);
    }
    return reports;
  }
  const bad = (group: dist.ProcessGroup, src = 7) => group.broadcast(floats(1), { src });
  const self = { tensor: floats(1), peer: 0 };
  const ignore = () => {};

  test("several refused ops are observed with the whole", async () => {
    const reports = await reportsOf(async (group) => {
      expect(
        await failureOf(
          group.coalescing(() => {
            bad(group);
            group.allReduce(floats(1));
            bad(group, 8);
            group.allGatherObject(1);
          }),
        ),
      ).toContain("global rank 7");
    });
    expect(reports).toEqual([]);
  });

  test("several refused messages are observed with the Works of the batch", async () => {
    const reports = await reportsOf(async (group) => {
      for (const works of [
        dist.batchIsendIrecv([
          { op: dist.isend, ...self },
          { op: dist.irecv, ...self },
        ]),
        group.batchIsendIrecv([
          { op: group.isend, ...self },
          { op: group.irecv, ...self },
        ]),
      ]) {
        for (const work of works) expect(await failureOf(work)).toContain("is the rank of this process itself");
      }
    });
    expect(reports).toEqual([]);
  });

  test("a list that is refused as a whole is observed with any of its Works", async () => {
    const unknown = (() => {}) as unknown as typeof dist.isend;
    const reports = await reportsOf(async (group) => {
      for (const works of [
        dist.batchIsendIrecv([
          { op: dist.isend, ...self },
          { op: unknown, ...self },
        ]),
        group.batchIsendIrecv([
          { op: group.isend, ...self },
          { op: unknown as unknown as typeof group.isend, ...self },
        ]),
      ]) {
        expect(works).toHaveLength(2);
        if (works[0]) expect(await failureOf(works[0])).toContain("ops[1].op must be isend or irecv");
      }
    });
    expect(reports).toEqual([]);
  });

  test("an unobserved failure is still reported, once", async () => {
    const reports = await reportsOf((group) => {
      group.coalescing(() => {
        bad(group);
        bad(group);
      });
    });
    expect(reports).toHaveLength(2);
    expect(reports[0]).toStartWith("warning: unobserved failure: ");
    const batch = await reportsOf(() => {
      dist.batchIsendIrecv([
        { op: dist.isend, ...self },
        { op: dist.irecv, ...self },
      ]);
    });
    expect(batch).toEqual([
      "warning: unobserved failure: send: dst is the rank of this process itself",
      "send: dst is the rank of this process itself",
    ]);
  });

  test("a collective that waited behind a multi-step op fails once, and is observed once", async () => {
    const reports: string[] = [];
    const note = (warning: Error) => reports.push(warning.message);
    process.on("warning", note);
    await localRanks(2, async ({ rank, group }) => {
      const object = group.allGatherObject(rank);
      // Dtypes differ, which is only detected when the op is submitted behind the object.
      const late = group.allReduce(rank === 0 ? new Float32Array(1) : new Float64Array(1));
      await object;
      expect(await failureOf(late)).toContain("out of step");
      await Bun.sleep(5);
    }).catch(ignore);
    process.off("warning", note);
    expect(reports).toEqual([]);
  });
});

describe("batchIsendIrecv", () => {
  test("a ring of messages", async () => {
    await localRanks(3, async ({ rank, worldSize }) => {
      const received = new Int32Array(2);
      const works = dist.batchIsendIrecv([
        { op: dist.isend, tensor: Int32Array.of(rank, 1), peer: (rank + 1) % worldSize, tag: 4 },
        { op: dist.irecv, tensor: received, groupPeer: (rank + worldSize - 1) % worldSize, tag: 4 },
      ]);
      expect(works.map(({ opType }) => opType)).toEqual([dist.OpType.SEND, dist.OpType.RECV]);
      await Promise.all(works);
      const previous = (rank + worldSize - 1) % worldSize;
      expect([...received]).toEqual([previous, 1]);
      expect(works[1]?.sourceRank()).toBe(previous);
    });
  });

  test("is not delayed by a collective that its peer has not reached yet", async () => {
    await localRanks(
      2,
      async ({ rank, group }) => {
        const tensor = Int32Array.of(rank);
        if (rank === 0) {
          const objects = group.allGatherObject(rank);
          await Promise.all(group.batchIsendIrecv([{ op: dist.isend, tensor, peer: 1 }]));
          expect(await objects).toEqual([0, 1]);
        } else {
          await group.recv(tensor, { src: 0 });
          expect(await group.allGatherObject(rank)).toEqual([0, 1]);
        }
      },
      { timeout: "10s" },
    );
  });

  test("as methods of a group", async () => {
    await localRanks(2, async ({ rank, group }) => {
      const [peer, received] = [1 - rank, new Int32Array(1)];
      for (const [isend, irecv] of [
        [dist.isend, dist.irecv],
        [group.isend, group.irecv],
        [group.send, group.recv],
      ] as const) {
        await Promise.all(
          group.batchIsendIrecv([
            { op: isend, tensor: Int32Array.of(rank), peer },
            { op: irecv, tensor: received, peer },
          ]),
        );
        expect([...received]).toEqual([peer]);
      }
      const pair = await dist.newGroup();
      for (const work of group.batchIsendIrecv([{ op: dist.isend, tensor: received, peer, group: pair }])) {
        expect(await failureOf(work)).toContain('name a group other than "0"');
      }
      for (const work of group.batchIsendIrecv([])) expect(await failureOf(work)).toContain("an empty list");
      const works = [group.isend(Int32Array.of(rank), { dst: peer }), group.irecv(received, { src: peer })];
      expect(works.map(({ opType }) => opType)).toEqual([dist.OpType.SEND, dist.OpType.RECV]);
      await Promise.all(works);
    });
  });

  test("if one is invalid, none is sent", async () => {
    await localRanks(2, async ({ rank }) => {
      const tensor = new Int32Array(1);
      const good = { op: dist.isend, tensor, peer: 1 - rank };
      const group = await dist.newGroup([0, 1]);
      const bad: [unknown, string][] = [
        [[good, { op: dist.irecv, tensor, peer: rank }], "src is the rank of this process itself"],
        [[good, { op: dist.allReduce, tensor, peer: 0 }], "ops[1].op must be isend or irecv"],
        [[good, { op: dist.irecv, tensor }], "ops[1] must name a peer or groupPeer"],
        [[good, { ...good, group }], "all ops need to use the same group"],
        [[], "ops is an empty list"],
        ["x", "ops must be an array"],
      ];
      for (const [ops, message] of bad) {
        const works = dist.batchIsendIrecv(ops as dist.P2POp[]);
        expect(works.length).toBe(Array.isArray(ops) ? Math.max(1, ops.length) : 1);
        for (const work of works) expect(await failureOf(work)).toContain(message);
      }
      await dist.barrier();
    });
  });
});
