import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fake from "../backends/fake/plugin.ts";
import { OpType } from "../collectives/index.ts";
import * as dist from "../index.ts";
import type { BackendPlugin, Middleware } from "../registry/index.ts";
import { SteppedWork, type Work } from "../work/index.ts";
import { sweepFromEnvironment, testBackend } from "./backend-suite/backend-suite.ts";
import { byMethods } from "./fixtures/device-methods.ts";
import plugin, {
  breakDevice,
  DeviceTensor,
  deviceBlocks,
  deviceFaults,
  library,
  memory,
  SoftwareDevice,
  seed,
  setLongestDelay,
  softwareDevice,
} from "./fixtures/software-device.ts";
import { localRanks } from "./ranks/local-ranks.ts";

setDefaultTimeout(60_000);

/** Its methods are called one by one, so a `recv` must not hold up the `send` after it. */
const ofMethods = byMethods(softwareDevice("software-device-messages", { messages: "overtake" }));
const blocksBefore = deviceBlocks();
const folder = mkdtempSync(join(tmpdir(), "c10d-software-device-"));

// In a smoke sweep, each of the two has one of the larger worlds.
const sweep = sweepFromEnvironment();
const [ordered, overtaking] = sweep.seed % 2 === 0 ? [2, 3] : [3, 2];
if (!sweep.full) {
  const sample = `${ordered} ranks, and ${overtaking} if messages overtake`;
  console.log(`sample: a slow device with ${sample}, C10D_SEED=${sweep.seed}`);
}

describe(`the conformance suite on a slow device (C10D_SEED=${seed})`, () => {
  // Only the host polls these thousands of ops, and it needs some microseconds to continue.
  beforeAll(() => setLongestDelay(100));
  afterAll(() => setLongestDelay());

  describe("messages in their order among collectives", () => {
    testBackend(plugin, { worldSizes: sweep.full ? [1, 2, 3] : [1, ordered], spawn: false, memory });
  });

  describe("messages at once, ops of a batch one by one", () => {
    const device = softwareDevice("software-device-overtaking", { messages: "overtake", batches: "0" });
    testBackend(device, { worldSizes: sweep.full ? [2, 3] : [overtaking], spawn: false, memory });
  });
});

/** One of two ranks that share a thread: neither may block on what the other has still to do. */
class Rank {
  readonly device: SoftwareDevice;
  readonly group: dist.ProcessGroup;
  /** Stream of the ops, or 0 for the default stream. */
  readonly stream: number;
  readonly tensors: DeviceTensor[] = [];

  constructor(device: SoftwareDevice, group: dist.ProcessGroup, stream: number) {
    this.device = device;
    this.group = group;
    this.stream = stream;
  }

  get rank(): number {
    return this.group.rank;
  }

  /** A tensor that the stream of the ops fills with numbers. */
  tensor(numbers: readonly number[]): DeviceTensor {
    const made = this.space(numbers.length);
    made.put(numbers, this.stream);
    return made;
  }

  /** A tensor without numbers yet. */
  space(length: number): DeviceTensor {
    const made = new DeviceTensor(this.device, length);
    this.tensors.push(made);
    return made;
  }
}

/** Runs all ops of a group in a stream of its device. */
const inStream = (streamOf: (device: number) => number): Middleware => ({
  name: "in-stream",
  create({ device }) {
    const stream = { device, handle: streamOf(device.index) };
    return (next) => (calls) => next(device.type === "cpu" ? calls : calls.map((call) => ({ ...call, stream })));
  },
});

/** Runs `body` once with both ranks of a group. */
async function withRanks(
  backend: BackendPlugin,
  body: (ranks: readonly [Rank, Rank]) => Promise<void>,
  others: readonly BackendPlugin[] = [],
): Promise<void> {
  const devices = [new SoftwareDevice(1), new SoftwareDevice(2)] as const;
  const streams = devices.map((device) => device.openStream());
  const streamOf = (index: number): number => streams[index - 1] ?? 0;
  const ranks: Rank[] = [];
  const done = Promise.withResolvers<void>();
  await localRanks(
    2,
    async ({ rank, store, worldSize }) => {
      const container = dist.createContainer({ overrides: [backend, ...others] });
      container.register(dist.BACKEND_MIDDLEWARE, { useValue: inStream(streamOf) });
      const names = [`cuda:${backend.name}`, ...others.map(({ name }) => `cpu:${name}`)].join(",");
      const deviceId = `cuda:${rank + 1}`;
      const group = await dist.initProcessGroup({ backend: names, deviceId, container, store, rank, worldSize });
      ranks[rank] = new Rank(devices[rank === 0 ? 0 : 1], group, streamOf(rank + 1));
      const [first, second] = ranks;
      if (first !== undefined && second !== undefined) {
        body([first, second]).then(done.resolve, done.reject);
      }
      await done.promise;
      await dist.destroyProcessGroup();
    },
    { init: false },
  );
  for (const { tensors } of ranks) for (const each of tensors) each[Symbol.dispose]();
  for (const device of devices) device.closeStream(streamOf(device.index));
}

/** The Works of ops on one rank, and the numbers that will be in their tensors. */
interface Started {
  readonly works: readonly Work<unknown>[];
  readonly results: readonly (readonly [DeviceTensor, readonly number[]])[];
}

const other = ({ rank }: Rank): number => 1 - rank;

/** Each kind of Work that a group returns, by what makes it. Both ranks have the same numbers, except for messages. */
const kinds: Readonly<Record<string, (rank: Rank) => Started>> = {
  "an op of one tensor"(rank) {
    const x = rank.tensor([1, 2, 3]);
    return { works: [rank.group.allReduce(x.tensor)], results: [[x, [2, 4, 6]]] };
  },

  "an op with another output"(rank) {
    const [x, y] = [rank.tensor([1, 2]), rank.space(4)];
    return { works: [rank.group.allGatherIntoTensor(y.tensor, x.tensor)], results: [[y, [1, 2, 1, 2]]] };
  },

  "an op of a list"(rank) {
    const [x, y] = [rank.tensor([1, 2]), rank.tensor([3])];
    const works = [rank.group.allReduce([x.tensor, y.tensor])];
    return {
      works,
      results: [
        [x, [2, 4]],
        [y, [6]],
      ],
    };
  },

  "all of a coalesced batch"(rank) {
    const [x, y, z] = [rank.tensor([1, 2]), rank.space(2), rank.tensor([3])];
    const whole = rank.group.coalescing(() => {
      rank.group.allReduce(x.tensor);
      rank.group.allGatherIntoTensor(y.tensor, z.tensor);
    });
    return {
      works: [whole],
      results: [
        [x, [2, 4]],
        [y, [3, 3]],
      ],
    };
  },

  "the parts of a coalesced batch"(rank) {
    const [x, y] = [rank.tensor([1, 2]), rank.tensor([3])];
    const works: Work<unknown>[] = [];
    rank.group.coalescing(() => {
      works.push(rank.group.allReduce(x.tensor), rank.group.allReduce(y.tensor, { op: dist.ReduceOp.MAX }));
    });
    return {
      works,
      results: [
        [x, [2, 4]],
        [y, [3]],
      ],
    };
  },

  // One after the other, they would wait for each other: messages keep their order here.
  "a batch of messages both ways"(rank) {
    const { group } = rank;
    const [x, y] = [rank.tensor([5 + rank.rank]), rank.space(1)];
    const works = group.batchIsendIrecv([
      { op: dist.irecv, tensor: y.tensor, peer: other(rank), group },
      { op: dist.isend, tensor: x.tensor, peer: other(rank), group },
    ]);
    return { works, results: [[y, [5 + other(rank)]]] };
  },
};

/**
 * What a stream that synchronizes with the Works of rank 0 sees, which waits for rank 1, and what another stream sees.
 */
async function whatStreamsSee(ranks: readonly [Rank, Rank], start: (rank: Rank) => Started, isHeld = false) {
  const [first, second] = ranks;
  const { device, stream } = first;
  const hasty = device.openStream();
  const hold = isHeld ? device.hold(stream) : undefined;
  const { works, results } = start(first);
  const copies = (into: number): DeviceTensor[] =>
    results.map(([{ address, byteLength }]) => {
      const copy = first.space(byteLength / 4);
      device.copy(copy.address, address, byteLength, into);
      return copy;
    });
  for (const work of works) work.synchronize();
  const inOrder = copies(stream);
  const reached = device.mark(stream);
  const early = copies(hasty).map((copy) => copy.read(hasty));
  Bun.sleepSync(10);
  const isLate = !reached.isDone();
  hold?.release();
  const peer = start(second);
  // Only this makes native code start the ops: no microtask runs here.
  for (const work of peer.works) work.synchronize();
  const seen = inOrder.map((copy) => copy.read(stream));
  device.closeStream(hasty);
  const ends = await Promise.allSettled([...works, ...peer.works]);
  return { seen, early, isLate, expected: results.map(([, numbers]) => [...numbers]), ends };
}

describe(`synchronize() lets the stream of the op wait for it, without blocking (C10D_SEED=${seed})`, () => {
  const makers = [
    ["", plugin],
    ["by a method: ", ofMethods],
  ] as const;
  const rows = makers.flatMap(([by, maker]) =>
    Object.entries(kinds).map(([kind, start]) => [`${by}${kind}`, maker, start] as const),
  );
  test.each(rows)("%s", async (_, maker, start) => {
    await withRanks(maker, async (ranks) => {
      for (let round = 0; round < 5; round++) {
        const { seen, early, isLate, expected, ends } = await whatStreamsSee(ranks, start);
        expect(seen).toEqual(expected);
        expect(isLate).toBe(true);
        // Otherwise this would show nothing.
        expect(early).not.toEqual(expected);
        expect(ends.every(({ status }) => status === "fulfilled")).toBe(true);
      }
    });
  });

  test("an op that is composed of others", async () => {
    const { allReduceCoalesced: _, allGatherIntoTensor: __, ...ops } = plugin.capabilities.ops;
    const lacking = { ...plugin, capabilities: { ...plugin.capabilities, ops } };
    await withRanks(lacking, async (ranks) => {
      for (const kind of ["an op of a list", "an op with another output"]) {
        const { seen, isLate, expected } = await whatStreamsSee(
          ranks,
          kinds[kind] ?? (() => ({ works: [], results: [] })),
        );
        expect(seen).toEqual(expected);
        expect(expected).not.toEqual([]);
        expect(isLate).toBe(true);
      }
    });
  });

  test("an op that waits for its turn: not before then", async () => {
    await withRanks(
      plugin,
      async ([first, second]) => {
        const { device, stream } = first;
        const objects = [first.group.allGatherObject("a")];
        const [x, y] = [first.tensor([1, 2]), second.tensor([1, 2])];
        const work = first.group.allReduce(x.tensor);
        expect(() => work.synchronize()).toThrow("has not been submitted yet: await it");
        objects.push(second.group.allGatherObject("b"));
        expect(await Promise.all(objects)).toEqual([
          ["a", "b"],
          ["a", "b"],
        ]);
        work.synchronize();
        const copy = first.space(2);
        device.copy(copy.address, x.address, x.byteLength, stream);
        const reached = device.mark(stream);
        Bun.sleepSync(10);
        expect(reached.isDone()).toBe(false);
        await second.group.allReduce(y.tensor);
        expect(copy.read(stream)).toEqual([2, 4]);
        await work;
      },
      [fake],
    );
  });

  test.each(makers)("%san op of several steps: it is waited for", async (_, maker) => {
    await withRanks(maker, async ([first, second]) => {
      const [x, y] = [first.tensor([1, 2]), second.tensor([1, 2])];
      const peers = [second.group.allReduce(y.tensor), second.group.allReduce(y.tensor)];
      for (const each of peers) each.synchronize();
      const steps = function* () {
        yield first.group.allReduce(x.tensor);
        yield first.group.allReduce(x.tensor);
      };
      const work = new SteppedWork({ opType: OpType.ALLREDUCE }, steps());
      work.start();
      expect(work.hasStream).toBe(true);
      work.synchronize();
      expect(work.isCompleted()).toBe(true);
      // In any stream: there is nothing left to wait for.
      expect(x.read()).toEqual([4, 8]);
      await Promise.all(peers);
    });
  });

  test("an op that failed: its error", async () => {
    await withRanks(plugin, async ([first]) => {
      const work = first.group.allReduce(first.tensor([1]).tensor, { timeout: 50 });
      const failure = await work.then(
        () => undefined,
        (error: unknown) => error,
      );
      expect(failure).toBeInstanceOf(dist.DistTimeoutError);
      expect(() => work.synchronize()).toThrow(/timed out after 50 ms/);
    });
  });

  test.each(["no-input-wait", "no-output-wait", "other-output-stream", "no-end-wait"])(
    "a transport without one of the waits is found: %s",
    async (mutate) => {
      await withRanks(softwareDevice("software-device-mutant", { mutate }), async (ranks) => {
        const start = kinds["an op with another output"];
        if (start === undefined) throw new Error("no such kind");
        const results: boolean[] = [];
        for (const isHeld of [false, true]) {
          const { seen, expected } = await whatStreamsSee(ranks, start, isHeld);
          results.push(Bun.deepEquals(seen, expected));
        }
        expect(results).toContain(false);
      });
    },
  );
});

describe("the host", () => {
  test("is notified when the device has completed an op, and receives the time that it took there", async () => {
    await withRanks(plugin, async ([first, second]) => {
      for (const { group } of [first, second]) group.enableCollectivesTiming();
      const hold = first.device.hold(first.stream);
      const work = first.group.allReduce(first.tensor([1]).tensor);
      const peer = second.group.allReduce(second.tensor([1]).tensor);
      await Bun.sleep(30);
      expect([work.isCompleted(), peer.isCompleted()]).toEqual([false, false]);
      hold.release();
      const released = performance.now();
      await Promise.all([work, peer]);
      // From when the stream reaches it: the time that it waited there does not count.
      const { activeDuration } = work.info();
      expect(activeDuration).toBeGreaterThan(0);
      expect(activeDuration).toBeLessThan(performance.now() - released);
    });
  });

  test("reports why the backend cannot be used", async () => {
    // A copy is another library: that of the other tests is in use.
    const copy = join(folder, "libc10d_software_device.so");
    cpSync(fileURLToPath(library), copy);
    breakDevice(copy, "no driver: libsoftdev.so.1 is missing");
    const broken = softwareDevice("software-device-broken", {}, copy);
    expect(await broken.probe()).toMatchObject({
      available: false,
      reason: expect.stringContaining("no driver: libsoftdev.so.1 is missing"),
    });
    expect(await plugin.probe()).toMatchObject({ available: true, version: "software device 1.0" });
  });
});

afterAll(() => {
  rmSync(folder, { recursive: true });
  expect(deviceBlocks()).toBe(blocksBefore);
  expect(deviceFaults()).toBe(0);
});
