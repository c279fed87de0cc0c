import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import { DistributedSampler } from "../../src/ddp/distributed-sampler.ts";
import { Generator, RandomState, randn, randperm } from "../../src/ddp/random/index.ts";
import { JsonPeer } from "./json-peer.ts";
import { describeWithTorch } from "./torch.ts";

setDefaultTimeout(120_000);

const bytes = (text: unknown): ArrayBuffer => new Uint8Array(Buffer.from(String(text), "base64")).buffer;

const kinds = ["random", "random64", "uniform", "uniformDouble", "randperm", "randn"] as const;
type Call = readonly [kind: (typeof kinds)[number], n: number];

const seeds = fc.oneof(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }), fc.integer().map(BigInt));
/** Of `randn`: around the length from which PyTorch makes blocks of 16, and multiples of it. */
const lengths = fc.oneof(
  fc.nat(40),
  fc.nat(20_000),
  fc.nat(500).map((blocks) => blocks * 16),
);
const calls: fc.Arbitrary<Call> = fc.oneof(
  fc.constantFrom(...kinds.slice(0, 4)).map((kind): Call => [kind, 0]),
  fc.oneof(fc.nat(50), fc.nat(100_000)).map((n): Call => ["randperm", n]),
  lengths.map((n): Call => ["randn", n]),
);

describeWithTorch("random numbers and samplers, as PyTorch has them", (python) => {
  let peer: JsonPeer;
  /** Of `randn`: PyTorch's code without AVX2 rounds elsewhere. */
  let tolerance: number;
  beforeAll(async () => {
    peer = new JsonPeer(python, "random_peer.py");
    tolerance = String(await peer.reply()).startsWith("AVX") ? 1e-6 : 3e-6;
  });
  afterAll(() => peer[Symbol.asyncDispose]());

  function expectSame(generator: Generator, [kind, n]: Call, theirs: unknown): void {
    switch (kind) {
      case "random":
        expect(generator.random() % 2 ** 31).toBe(theirs as number);
        break;
      case "random64":
        expect(generator.random64()).toBe(BigInt(theirs as string));
        break;
      case "uniform":
      case "uniformDouble":
        expect(generator[kind]()).toBe(theirs as number);
        break;
      case "randperm":
        expect(new Bun.CryptoHasher("sha256").update(randperm(n, generator)).digest("hex")).toBe(theirs as string);
        break;
      case "randn": {
        const [ours, expected] = [randn(n, generator), new Float32Array(bytes(theirs))];
        expect(ours).toHaveLength(expected.length);
        const difference = expected.reduce((most, number, i) => {
          return Math.max(most, Math.abs((ours[i] ?? Number.NaN) - number) / Math.max(1, Math.abs(number)));
        }, 0);
        expect(difference).toBeLessThan(tolerance);
      }
    }
  }

  test("any calls on one generator", async () => {
    await fc.assert(
      fc.asyncProperty(seeds, fc.array(calls, { minLength: 1, maxLength: 8 }), async (seed, sequence) => {
        const generator = new Generator(seed);
        // What comes last shows where the generator is, and which number of a pair is left.
        const all: Call[] = [...sequence, ["randn", 1], ["random64", 0]];
        const [initial, ...results] = (await peer.ask("draws", String(seed), all)) as [string, ...unknown[]];
        expect(generator.initialSeed()).toBe(BigInt(initial));
        for (const [i, call] of all.entries()) expectSame(generator, call, results[i]);
      }),
      { numRuns: 200 },
    );
  });

  test("numpy's RandomState", async () => {
    const bounds = fc.array(fc.oneof(fc.constant(1_000_000_000), fc.integer({ min: 1, max: 2 ** 32 })), {
      minLength: 1,
      maxLength: 50,
    });
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 2 ** 32 - 1 }), bounds, async (seed, all) => {
        const random = new RandomState(seed);
        expect(all.map((high) => random.randint(high))).toEqual((await peer.ask("randint", seed, all)) as number[]);
      }),
    );
  });

  test("DistributedSampler", async () => {
    const sampler = {
      length: fc.oneof(fc.nat(30), fc.nat(10_000), fc.nat(100_000)),
      worldSize: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 300 })),
      place: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      shuffle: fc.boolean(),
      seed: fc.oneof(fc.nat(100).map(BigInt), fc.bigInt({ min: -(2n ** 62n), max: 2n ** 63n })),
      dropLast: fc.boolean(),
      epoch: fc.oneof(fc.nat(100), fc.integer()),
    };
    await fc.assert(
      fc.asyncProperty(fc.record(sampler), async ({ length, worldSize, place, shuffle, seed, dropLast, epoch }) => {
        const rank = Math.floor(place * worldSize);
        const ours = new DistributedSampler(length, { worldSize, rank, shuffle, seed, dropLast });
        ours.setEpoch(epoch);
        const theirs = await peer.ask("sampler", length, worldSize, rank, shuffle, String(seed), dropLast, epoch);
        const [numSamples, totalSize, indices] = theirs as [number, number, string];
        expect([ours.length, ours.numSamples, ours.totalSize]).toEqual([numSamples, numSamples, totalSize]);
        expect([...ours]).toEqual([...new Uint32Array(bytes(indices))]);
      }),
      { numRuns: 200 },
    );
  });

  const full = process.env.C10D_SWEEP === "full";
  if (!full) console.log("skip: permutations of 200 million (2 GB, a minute): only with C10D_SWEEP=full");
  // PyTorch has another algorithm from the second length on.
  test.skipIf(!full).each([214_748_363, 214_748_364])(
    "randperm(%d)",
    async (n) => {
      const call: Call = ["randperm", n];
      const next: Call = ["random64", 0];
      const [, elements, drawnNext] = (await peer.ask("draws", "5", [call, next])) as unknown[];
      const generator = new Generator(5);
      expectSame(generator, call, elements);
      expectSame(generator, next, drawnNext);
    },
    300_000,
  );
});
