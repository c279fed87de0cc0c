import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import { computeBucketAssignmentBySize } from "../../src/ddp/index.ts";
import { empty } from "../../src/tensor/index.ts";
import { JsonPeer } from "./json-peer.ts";
import { describeWithTorch } from "./torch.ts";

setDefaultTimeout(60_000);

const dtypes = ["float32", "float64", "float16", "bfloat16", "int32", "int64"] as const;
const size = fc.tuple(fc.constantFrom(...dtypes), fc.oneof(fc.nat(8), fc.nat(2000)));
const limits = fc.array(fc.oneof(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: 20_000 })), {
  minLength: 1,
  maxLength: 4,
});

const request = fc
  .tuple(fc.array(size, { minLength: 1, maxLength: 25 }), limits, fc.boolean(), fc.boolean())
  .chain(([sizes, each, hasSparse, hasIndices]) => {
    const { length } = sizes;
    const sparse = hasSparse ? fc.array(fc.boolean(), { minLength: length, maxLength: length }) : fc.constant([]);
    const order = Array.from({ length }, (_, i) => i);
    const indices = hasIndices ? fc.shuffledSubarray(order, { minLength: length }) : fc.constant([]);
    return fc.tuple(fc.constant(sizes), fc.constant(each), sparse, indices);
  });

describeWithTorch("bucket assignment, as PyTorch has it", (python) => {
  let peer: JsonPeer;
  beforeAll(() => {
    peer = new JsonPeer(python, "bucket_peer.py");
  });
  afterAll(() => peer[Symbol.asyncDispose]());

  test("any sizes, dtypes, limits, sparse gradients and orders", async () => {
    await fc.assert(
      fc.asyncProperty(request, async ([sizes, each, sparse, indices]) => {
        const tensors = sizes.map(([dtype, length]) => empty(dtype, length));
        const ours = computeBucketAssignmentBySize(tensors, each, sparse, indices);
        const theirs = await peer.ask(sizes, each, sparse, indices);
        expect(ours).toEqual(theirs as [number[][], number[]]);
      }),
      { numRuns: process.env.C10D_SWEEP === "full" ? 5000 : 500 },
    );
  });

  test.each<[string, unknown[]]>([
    ["no tensors", [[], [100], [], []]],
    ["sparse flags for another number of tensors", [[["float32", 4]], [100], [true, false], []]],
  ])("%s: an error in both", async (_, [sizes, each, sparse, indices]) => {
    expect(await peer.ask(sizes, each, sparse, indices)).toBe("RuntimeError");
    const tensors = (sizes as [(typeof dtypes)[number], number][]).map(([dtype, length]) => empty(dtype, length));
    const assign = () =>
      computeBucketAssignmentBySize(tensors, each as number[], sparse as boolean[], indices as number[]);
    expect(assign).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  });
});
