import "reflect-metadata";
import { afterEach, describe, expect, test } from "bun:test";
import { type OpCall, type OpType, opTypeOf } from "../../collectives/index.ts";
import * as dist from "../../distributed/index.ts";
import { DistBackendError, type DistError } from "../../errors/index.ts";
import { Backend, type Capabilities, createContainer } from "../../registry/index.ts";
import { HashStore } from "../../store/index.ts";
import { Work } from "../../work/index.ts";
import { memoryPlugin } from "../fixtures/memory-backend.ts";

afterEach(async () => {
  if (dist.isInitialized()) await dist.destroyProcessGroup().catch(() => {});
});

const boom = new TypeError("undefined is not a function");
const throwing = () => {
  throw boom;
};
const capabilities: Capabilities = {
  ops: { allReduce: ["float32"], broadcast: ["float32"], barrier: [] },
  reduceOps: { float32: ["SUM"] },
};

/** A Work that a test ends; `members` override its own. */
class RingWork extends Work<void> {
  constructor(opType: OpType, members: object) {
    super({ opType });
    Object.defineProperties(this, Object.getOwnPropertyDescriptors(members));
  }

  protected override block(): void {
    this.settle();
  }
}

/** A group on a backend whose Works have these members, and the Works. With `keepsTimeouts` they are not watched. */
async function groupWith(members: object, keepsTimeouts: boolean) {
  const works: RingWork[] = [];
  class Ring extends Backend {
    override readonly name = "ring";
    override readonly capabilities = { ...capabilities, keepsTimeouts };
    override submit(calls: readonly OpCall[]): readonly Work<void>[] {
      return calls.map((call) => {
        const work = new RingWork(opTypeOf(call), members);
        works.push(work);
        return work;
      });
    }
  }
  return { group: await groupOf({ create: async () => new Ring(0, 1), keepsTimeouts }), works };
}

async function groupOf({ create, keepsTimeouts = false }: { create: () => Promise<Backend>; keepsTimeouts?: boolean }) {
  const plugin = memoryPlugin("ring", { capabilities: { ...capabilities, keepsTimeouts }, create });
  const container = createContainer({ overrides: [plugin] });
  const meeting = { store: new HashStore(), rank: 0, worldSize: 1, timeout: "20s" } as const;
  return dist.initProcessGroup({ backend: "ring", container, ...meeting });
}

const floats = () => new Float32Array(1);
const thrownBy = (call: () => unknown): DistError => {
  try {
    call();
  } catch (error) {
    return error as DistError;
  }
  throw new Error("nothing was thrown");
};
const rejection = (work: Work<unknown>) => work.then(() => "it ended well").catch((error: unknown) => error);
const details = { backend: "ring", group: "0" };

for (const keepsTimeouts of [false, true]) {
  const whose = keepsTimeouts ? "of a backend with its own time-outs" : "of a backend that is watched";
  // A Work that is not watched only has a number of its own.
  const where = (op: string) => `${op}${keepsTimeouts ? "" : " #1"} (ring, group "0", rank 0 of 1)`;

  describe(`wait() for a Work ${whose}`, () => {
    const blocks: readonly [string, object, object][] = [
      [
        "without block()",
        { block: undefined },
        {
          code: "INVALID_WORK",
          message: `${where("allReduce")}: its Work has no block(), which wait() needs; await it`,
        },
      ],
      [
        "whose block() throws",
        { block: throwing },
        {
          code: "BACKEND_ERROR",
          message: `${where("allReduce")}: block() of its Work has failed: ${boom.message}`,
          cause: boom,
        },
      ],
      [
        "whose block() cannot be read",
        {
          get block() {
            return throwing();
          },
        },
        { code: "BACKEND_ERROR", cause: boom },
      ],
      [
        "whose block() is async",
        { block: async () => throwing() },
        {
          code: "INVALID_WORK",
          message: `${where("allReduce")}: its Work stopped blocking before the op ended; await it`,
        },
      ],
    ];
    for (const [what, members, expected] of blocks) {
      test(`${what}: it throws an error with a code, and the op continues`, async () => {
        const { group, works } = await groupWith(members, keepsTimeouts);
        const work = group.allReduce(floats());
        expect(thrownBy(() => work.wait())).toMatchObject({ name: "DistBackendError", details, ...expected });
        expect([work.isCompleted(), group.state]).toEqual([false, "OPEN"]);
        works[0]?.settle();
        expect(work.wait()).toBe(true);
      });

      test(`${what}: the same in a batch`, async () => {
        const { group, works } = await groupWith(members, keepsTimeouts);
        const whole = group.coalescing(() => {
          group.allReduce(floats());
          group.broadcast(floats(), { src: 0 });
        });
        const { code } = expected as { readonly code: string };
        expect(thrownBy(() => whole.wait())).toMatchObject({ name: "DistBackendError", code });
        for (const work of works) work.settle();
        await whole;
      });
    }

    test("an error of this package thrown by block() is passed on unchanged", async () => {
      const own = new DistBackendError("the ring is open", { code: "OPEN_RING" });
      const block = () => {
        throw own;
      };
      const { group, works } = await groupWith({ block }, keepsTimeouts);
      const work = group.allReduce(floats());
      expect(thrownBy(() => work.wait())).toBe(own);
      works[0]?.settle();
    });
  });

  describe(`an error of another package passed to a Work ${whose}`, () => {
    const requireNamed = async (work: Work<unknown>, op: string) => {
      const error = (await rejection(work)) as DistError;
      expect(error).toMatchObject({
        name: "DistBackendError",
        code: "BACKEND_ERROR",
        cause: boom,
        details: { ...details, op },
      });
      // Under middleware, which earlier tests may have left in all containers, a Work that ended early has a number.
      expect(error.message.replace(" #1", "")).toBe(`${op} (ring, group "0", rank 0 of 1): ${boom.message}`);
    };

    test("that is pending", async () => {
      const { group, works } = await groupWith({}, keepsTimeouts);
      const work = group.allReduce(floats());
      works[0]?.settle(boom as never);
      await requireNamed(work, "allReduce");
    });

    test("before it is returned", async () => {
      class Ring extends Backend {
        override readonly name = "ring";
        override readonly capabilities = { ...capabilities, keepsTimeouts };
        override submit(calls: readonly OpCall[]): readonly Work<void>[] {
          return calls.map((call) => Work.rejected(boom, { opType: opTypeOf(call) }));
        }
      }
      const group = await groupOf({ create: async () => new Ring(0, 1), keepsTimeouts });
      await requireNamed(group.allReduce(floats()), "allReduce");
      expect(await rejection(group.coalescing(() => void group.barrier()))).toMatchObject({ code: "BACKEND_ERROR" });
    });
  });

  describe(`members of a Work ${whose} that throw`, () => {
    const members = {
      isCompleted: throwing,
      isSuccess: throwing,
      whenEnded: throwing,
      info: throwing,
      result: throwing,
      exception: throwing,
      sourceRank: throwing,
      abort: throwing,
    };
    const getters = Object.fromEntries(["seq", "opType", "observed"].map((name) => [name, { get: throwing }]));
    const all = () => Object.defineProperties({ ...members }, { ...getters }) as object;
    const opsWith = async () => {
      // Object.defineProperties() takes a descriptor for each.
      const own = Object.getOwnPropertyDescriptors(all());
      const made = await groupWith({}, keepsTimeouts);
      const spoil = (from: number) => {
        for (const work of made.works.slice(from)) Object.defineProperties(work, own);
      };
      return { ...made, spoil };
    };

    test("do not disturb the bookkeeping of the group", async () => {
      const { group, works, spoil } = await opsWith();
      const ended = [group.allReduce(floats()), group.barrier()];
      spoil(0);
      const [first, second] = works;
      first?.settle();
      second?.settle(boom as never);
      const results = await Promise.allSettled(ended);
      expect(results.map(({ status }) => status)).toEqual(["fulfilled", "rejected"]);
      expect(results[1]).toMatchObject({ reason: { code: "BACKEND_ERROR", cause: boom } });
      expect(group.inFlight).toBe(0);
    });

    test("do not keep a batch from ending, by await and by wait()", async () => {
      const { group, works, spoil } = await opsWith();
      for (const end of [
        (whole: Work<void>, own: readonly RingWork[]) => {
          for (const work of own) work.settle();
          return whole.then();
        },
        (whole: Work<void>) => whole.wait(),
      ]) {
        const before = works.length;
        const whole = group.coalescing(() => {
          group.allReduce(floats());
          group.broadcast(floats(), { src: 0 });
        });
        spoil(before);
        await end(whole, works.slice(before));
        expect(whole.isSuccess()).toBe(true);
      }
    });

    // A backend with its own time-outs is trusted to end its ops.
    if (keepsTimeouts) return;
    test("do not keep an op in flight from being aborted when the group is closed", async () => {
      const { group, spoil } = await opsWith();
      const work = group.allReduce(floats());
      spoil(0);
      const end = rejection(work);
      await group.close();
      expect(await end).toMatchObject({ code: "ABORTED" });
    });
  });
}

test("a Work whose keepsLimit throws is refused and named", async () => {
  const members = {
    get keepsLimit() {
      return throwing();
    },
  };
  const { group } = await groupWith(members, false);
  const error = (await rejection(group.allReduce(floats()))) as DistError;
  expect([error.name, error.code, error.cause]).toEqual(["DistBackendError", "INVALID_WORK", boom]);
  expect(error.details).toMatchObject({ ...details, op: "allReduce" });
  // Earlier tests may have left middleware in all containers.
  expect(error.message).toMatch(
    /^allReduce: backend "ring".*: keepsLimit of its Work failed: undefined is not a function$/,
  );
});

test.each([["synchronize()", { synchronize: throwing }]])("%s of a part of an op", async (method, members) => {
  const { group, works } = await groupWith(members, false);
  const whole = group.coalescing(() => {
    group.allReduce(floats());
    group.broadcast(floats(), { src: 0 });
  });
  expect(thrownBy(() => whole.synchronize())).toMatchObject({
    code: "BACKEND_ERROR",
    message: `allReduce #1 (ring, group "0", rank 0 of 1): ${method} of its Work has failed: ${boom.message}`,
    cause: boom,
  });
  for (const work of works) work.settle();
});

test("a Work whose settle() throws still ends when its time-out expires", async () => {
  const { group } = await groupWith({ settle: throwing, block: () => Bun.sleepSync(1_050) }, false);
  const work = group.allReduce(floats(), { timeout: 20 });
  expect(thrownBy(() => work.wait())).toMatchObject({ code: "OP_TIMEOUT" });
  expect([work.isCompleted(), group.state]).toEqual([true, "FAILED"]);
});
