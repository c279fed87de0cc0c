import { afterAll, afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import * as dist from "../index.ts";
import { type Stream, setCurrentStreamOf, TENSOR_HOLD, TENSOR_PROTOCOL, type TensorLike } from "../tensor/index.ts";
import plugin, { DeviceTensor, deviceBlocks, deviceFaults, SoftwareDevice } from "./fixtures/software-device.ts";
import { localRanks } from "./ranks/local-ranks.ts";

setDefaultTimeout(60_000);

// The streams of ops, on the software device: the option, the current stream, and what keeps tensors until ops have ended.

const blocksBefore = deviceBlocks();
const devices = [new SoftwareDevice(1), new SoftwareDevice(2)] as const;
const opened: [SoftwareDevice, number][] = [];

/** A new stream of the first device or, of the second, for the other rank. */
function openStream(device: SoftwareDevice): Stream {
  const handle = device.openStream();
  opened.push([device, handle]);
  return { device: { type: "cuda", index: device.index }, handle };
}

afterEach(() => {
  for (const { index } of devices) setCurrentStreamOf({ type: "cuda", index }, undefined);
});
afterAll(() => {
  for (const [device, handle] of opened) device.closeStream(handle);
  expect(deviceBlocks()).toBe(blocksBefore);
  expect(deviceFaults()).toBe(0);
});

type Groups = readonly [dist.ProcessGroup, dist.ProcessGroup];

/** Runs `body` once with the groups of two ranks of this thread, each with a device of its own. */
async function withGroups(
  body: (groups: Groups, made: DeviceTensor[]) => Promise<void>,
  used: dist.BackendPlugin = plugin,
): Promise<void> {
  const groups: dist.ProcessGroup[] = [];
  const made: DeviceTensor[] = [];
  const done = Promise.withResolvers<void>();
  await localRanks(
    2,
    async ({ rank, store, worldSize }) => {
      const container = dist.createContainer({ overrides: [used] });
      const deviceId = `cuda:${rank + 1}`;
      const backend = `cuda:${used.name}`;
      groups[rank] = await dist.initProcessGroup({ backend, deviceId, container, store, rank, worldSize });
      const [first, second] = groups;
      if (first !== undefined && second !== undefined) body([first, second], made).then(done.resolve, done.reject);
      await done.promise;
      await dist.destroyProcessGroup();
    },
    { init: false },
  );
  for (const each of made) each[Symbol.dispose]();
}

/** A Work as a promise, as `expect()` needs it. */
const settled = (work: dist.Work<unknown>): Promise<unknown> => Promise.resolve(work);
const failureOf = (work: dist.Work<unknown>): Promise<unknown> => {
  return settled(work).then(
    () => undefined,
    (error: unknown) => error,
  );
};

/** A tensor of a rank, which a stream fills. */
function filled(made: DeviceTensor[], rank: 0 | 1, numbers: readonly number[], stream?: Stream): DeviceTensor {
  const tensor = new DeviceTensor(devices[rank], numbers.length);
  made.push(tensor);
  tensor.put(numbers, stream?.handle);
  return tensor;
}

describe("an op starts after what is in its stream", () => {
  type Start = (
    group: dist.ProcessGroup,
    tensor: TensorLike,
    stream: Stream,
    made: DeviceTensor[],
  ) => dist.Work<unknown>;
  const starts: Readonly<Record<string, Start>> = {
    "the option": (group, tensor, stream) => group.allReduce(tensor, { stream }),
    "the option, for a list": (group, tensor, stream) => group.allReduce([tensor], { stream }),
    "the option, in a coalesced batch": (group, tensor, stream, made) =>
      group.coalescing(() => {
        // Both become one op.
        group.allReduce(tensor, { stream });
        group.allReduce(filled(made, group.rank === 0 ? 0 : 1, [1]).tensor, { stream });
      }),
    "the current stream": (group, tensor, stream) => {
      setCurrentStreamOf(stream.device, stream);
      return group.allReduce(tensor);
    },
    "the option, although there is another current stream": (group, tensor, stream) => {
      setCurrentStreamOf(stream.device, openStream(devices[0]));
      return group.allReduce(tensor, { stream });
    },
  };

  test.each(Object.entries(starts))("%s", async (_, start) => {
    await withGroups(async ([first, second], made) => {
      const stream = openStream(devices[0]);
      const hold = devices[0].hold(stream.handle);
      const x = filled(made, 0, [1, 2, 3], stream);
      const y = filled(made, 1, [10, 20, 30]);
      const works = [start(first, x.tensor, stream, made), start(second, y.tensor, openStream(devices[1]), made)];
      await Bun.sleep(20);
      expect(works[0]?.isCompleted()).toBe(false);
      hold.release();
      await Promise.all(works);
      expect(x.read(stream.handle)).toEqual([11, 22, 33]);
      expect(y.read()).toEqual([11, 22, 33]);
    });
  });

  test("the option, for a list that the backend takes one by one", async () => {
    const { allReduceCoalesced: _, ...ops } = plugin.capabilities.ops;
    const lacking = { ...plugin, capabilities: { ...plugin.capabilities, ops } };
    await withGroups(async ([first, second], made) => {
      const stream = openStream(devices[0]);
      const hold = devices[0].hold(stream.handle);
      const xs = [1, 2].map((n) => filled(made, 0, [n], stream));
      const ys = [3, 4].map((n) => filled(made, 1, [n]));
      const works = [
        first.allReduce(
          xs.map(({ tensor }) => tensor),
          { stream },
        ),
        second.allReduce(ys.map(({ tensor }) => tensor)),
      ];
      await Bun.sleep(20);
      expect(works[0]?.isCompleted()).toBe(false);
      hold.release();
      await Promise.all(works);
      expect(xs.map((each) => each.read(stream.handle))).toEqual([[4], [6]]);
    }, lacking);
  });

  test("the default stream, without any of these", async () => {
    await withGroups(async ([first, second], made) => {
      const stream = openStream(devices[0]);
      const hold = devices[0].hold(stream.handle);
      const [x, y] = [filled(made, 0, [1]), filled(made, 1, [2])];
      await Promise.all([first.allReduce(x.tensor), second.allReduce(y.tensor)]);
      expect(x.read()).toEqual([3]);
      hold.release();
    });
  });

  test("ops of a batch have one stream", async () => {
    await withGroups(async (groups, made) => {
      const start = (rank: 0 | 1, streams: readonly Stream[]) =>
        groups[rank].coalescing(() => {
          for (const i of [0, 1]) {
            const stream = streams[i];
            groups[rank].allReduce(filled(made, rank, [i + rank]).tensor, stream && { stream });
          }
        });
      const streams = [0, 1].map((rank) => [0, 1].map(() => openStream(devices[rank as 0 | 1])));
      const [own = [], other = []] = streams;
      for (const count of [2, 1]) {
        const ends = await Promise.all([start(0, own.slice(0, count)), start(1, other.slice(0, count))].map(failureOf));
        expect(String(ends[0])).toContain("all ops on cuda:1 have to be in one stream");
        expect(String(ends[1])).toContain("all ops on cuda:2 have to be in one stream");
      }
      await Promise.all([
        start(
          0,
          [0, 0].flatMap((i) => own[i] ?? []),
        ),
        start(1, []),
      ]);
    });
  });
});

describe("synchronize()", () => {
  test("makes the stream wait that is current when it is called", async () => {
    await withGroups(async ([first, second], made) => {
      const [own, other] = [openStream(devices[0]), openStream(devices[0])];
      const x = filled(made, 0, [1, 2], own);
      const y = filled(made, 1, [3, 4]);
      const work = first.allReduce(x.tensor, { stream: own });
      setCurrentStreamOf(other.device, other);
      work.synchronize();
      const copy = new DeviceTensor(devices[0], 2);
      made.push(copy);
      devices[0].copy(copy.address, x.address, x.byteLength, other.handle);
      const [inOther, inOwn] = [devices[0].mark(other.handle), devices[0].mark(own.handle)];
      for (let i = 0; i < 1_000 && !inOwn.isDone(); i++) await Bun.sleep(1);
      expect([inOwn.isDone(), inOther.isDone()]).toEqual([true, false]);
      await second.allReduce(y.tensor);
      await work;
      expect(copy.read(other.handle)).toEqual([4, 6]);
    });
  });
});

describe("streams that are refused", () => {
  const stream: Stream = { device: { type: "cuda", index: 1 }, handle: 0 };

  test("for tensors in host memory", async () => {
    await localRanks(1, async () => {
      await expect(settled(dist.allReduce(new Float32Array(1), { stream }))).rejects.toThrow(
        "allReduce: stream is for tensors on a device; these are in host memory",
      );
      await dist.allReduce(new Float32Array(1), { stream: undefined as never });
      await expect(settled(dist.allGatherObject(1, { stream } as never))).rejects.toThrow("unknown option stream");
    });
  });

  test("of another device, and what is none", async () => {
    await withGroups(async ([first, second], made) => {
      const [x, y] = [filled(made, 0, [1]), filled(made, 1, [2])];
      await expect(settled(second.allReduce(y.tensor, { stream }))).rejects.toThrow(
        "allReduce: stream is of cuda:1, the tensors are on cuda:2",
      );
      const handles = ["0", Number.NaN, 1.5, -1, 2 ** 53, Number.POSITIVE_INFINITY];
      const noHandles = handles.map((handle) => ({ device: stream.device, handle }));
      for (const wrong of [7, null, "s", {}, { handle: 0 }, ...noHandles]) {
        await expect(settled(first.allReduce(x.tensor, { stream: wrong as never }))).rejects.toMatchObject({
          name: "InvalidArgumentError",
          details: { argument: "stream" },
        });
      }
    });
  });
});

/** A tensor that counts its holds. */
class HeldTensor {
  readonly #inner: DeviceTensor;
  holds = 0;
  taken = 0;
  isGone = false;

  constructor(inner: DeviceTensor) {
    this.#inner = inner;
  }

  [TENSOR_PROTOCOL]() {
    return (this.#inner.tensor as { [TENSOR_PROTOCOL](): dist.ForeignTensor })[TENSOR_PROTOCOL]();
  }

  [TENSOR_HOLD](): () => void {
    if (this.isGone) throw new dist.InvalidArgumentError("the memory is gone", { code: "DISPOSED" });
    this.holds++;
    this.taken++;
    return () => {
      this.holds--;
    };
  }
}

describe("ops hold their tensors", () => {
  type Start = (group: dist.ProcessGroup, tensors: readonly [HeldTensor, HeldTensor]) => dist.Work<unknown>;
  const starts: Readonly<Record<string, Start>> = {
    "in place": (group, [x, y]) => {
      group.allReduce(y);
      return group.allReduce(x);
    },
    "with input and output": (group, [x, y]) => group.allToAllSingle(x, y),
    "in a list": (group, tensors) => group.allReduce(tensors),
    "in a batch": (group, [x, y]) =>
      group.coalescing(() => {
        group.allReduce(x);
        group.allReduce(y);
      }),
  };

  test.each(Object.entries(starts))("until they have ended: %s", async (_, start) => {
    await withGroups(async (groups, made) => {
      const held = ([0, 1] as const).map((rank) => {
        const make = () => new HeldTensor(filled(made, rank, [1, 2]));
        return [make(), make()] as const;
      });
      const [own, peers] = held;
      if (own === undefined || peers === undefined) throw new Error("unreachable");
      const work = start(groups[0], own);
      // The process group and the backend.
      expect(own.map(({ holds }) => holds)).toEqual([2, 2]);
      await Bun.sleep(5);
      expect(own.map(({ holds }) => holds)).toEqual([2, 2]);
      await Promise.all([work, start(groups[1], peers)]);
      expect(held.flat().map(({ holds }) => holds)).toEqual([0, 0, 0, 0]);
      expect(held.flat().map(({ taken }) => taken)).toEqual([2, 2, 2, 2]);
    });
  });

  test("before they are submitted", async () => {
    await withGroups(async ([first, second], made) => {
      const [x, y] = [new HeldTensor(filled(made, 0, [1])), filled(made, 1, [2])];
      const held: number[] = [];
      const batch = first.coalescing(() => {
        first.allReduce(x);
        held.push(x.holds);
      });
      await Promise.all([batch, second.coalescing(() => void second.allReduce(y.tensor))]);
      expect([held, x.holds]).toEqual([[1], 0]);
    });
  });

  test("an op whose tensor is gone is refused, and holds nothing", async () => {
    await withGroups(async ([first], made) => {
      const [x, y] = [new HeldTensor(filled(made, 0, [1, 2])), new HeldTensor(filled(made, 0, [1, 2]))];
      y.isGone = true;
      await expect(settled(first.allReduce(y))).rejects.toMatchObject({ code: "DISPOSED" });
      await expect(settled(first.allToAllSingle(x, y))).rejects.toThrow("the memory is gone");
      await expect(settled(first.allReduce([x, y]))).rejects.toThrow("the memory is gone");
      expect(x.holds).toBe(0);
    });
  });

  test("those of a group that is aborted are released when native code has let go", async () => {
    await withGroups(async ([first], made) => {
      const x = new HeldTensor(filled(made, 0, [1, 2]));
      const work = first.allReduce(x);
      work.abort();
      await expect(settled(work)).rejects.toThrow();
      for (let i = 0; i < 1_000 && x.holds > 0; i++) await Bun.sleep(1);
      expect(x.holds).toBe(0);
    }).catch((error: unknown) => {
      if (!/abort/.test(String(error))) throw error;
    });
  });
});
