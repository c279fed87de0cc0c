import { describe, expect, test } from "bun:test";
import { DistBackendError } from "../errors/index.ts";
import { sparseTensor } from "../tensor/index.ts";
import { countsOf, SPARSE_HEADER_LENGTH, sparseHeaderOf, splitSparse } from "./sparse-header.ts";

const tensor = sparseTensor({ indices: [[1, 4]], values: new Float32Array(6), shape: [5, 3], sparseDims: 1 });

function joined(...counts: bigint[]): BigInt64Array {
  const all = new BigInt64Array(counts.length * SPARSE_HEADER_LENGTH);
  for (const [rank, count] of counts.entries()) {
    all.set(sparseHeaderOf(tensor), rank * SPARSE_HEADER_LENGTH);
    all[(rank + 1) * SPARSE_HEADER_LENGTH - 1] = count;
  }
  return all;
}

describe("what ranks announce about a sparse tensor", () => {
  test("sizes of the sparse dimensions, of the dense ones, and the number of indices", () => {
    expect([...sparseHeaderOf(tensor)]).toEqual([5n, 0n, 0n, 0n, 3n, 0n, 0n, 0n, 2n]);
    expect(countsOf(joined(2n, 0n, 7n), 0, tensor)).toEqual([2, 0, 7]);
  });

  test.each<[bigint[], string]>([
    [[2n, -1n], "rank 1 announces -1 indices"],
    [[1n, 2n ** 40n], "all ranks together list 1099511627777 indices of blocks of 3 values"],
    [[2n ** 62n, 2n ** 62n, 2n ** 62n], "more than one array can hold"],
  ])("counts of %p are refused before anything is allocated", (counts, reason) => {
    const check = () => countsOf(joined(...counts), 1, tensor);
    expect(check).toThrow(DistBackendError);
    expect(check).toThrow(reason);
    expect(check).toThrow(expect.objectContaining({ code: "SPARSE_TOO_LARGE", details: { op: "allReduce", rank: 1 } }));
  });

  test("the joined parts are split by count", () => {
    const parts = splitSparse(
      tensor,
      [1, 0, 2],
      BigInt64Array.of(4n, 0n, 1n),
      Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9),
    );
    expect(parts.map(({ indices }) => [...indices])).toEqual([[4n], [], [0n, 1n]]);
    expect(parts.map(({ values }) => [...values])).toEqual([[1, 2, 3], [], [4, 5, 6, 7, 8, 9]]);
  });
});
