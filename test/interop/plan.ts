import { type DType, type Tensor, tensor } from "../../src/tensor/index.ts";

export type PlanOp = "SUM" | "PRODUCT" | "MIN" | "MAX" | "BAND" | "BOR" | "BXOR";

/**
 * What every rank of a mixed job does, `repeats` times: all-reduces, a broadcast from each rank, sub-groups, barriers.
 */
export interface Plan {
  readonly repeats: number;
  readonly allReduce: readonly { readonly dtype: DType; readonly op: PlanOp; readonly length: number }[];
  readonly groups: readonly (readonly number[])[];
}

const combine: { readonly [op in PlanOp]: (a: number, b: number) => number } = {
  SUM: (a, b) => a + b,
  PRODUCT: (a, b) => a * b,
  MIN: Math.min,
  MAX: Math.max,
  BAND: (a, b) => a & b,
  BOR: (a, b) => a | b,
  BXOR: (a, b) => a ^ b,
};

/** Element `i` of a rank: small, so that every dtype holds every result exactly, in any order of operations. */
const element = (rank: number, i: number) => ((rank * 3 + i) % 4) + 1;

function make(dtype: DType, values: readonly number[]): Tensor {
  if (dtype === "int64") return tensor(BigInt64Array.from(values, BigInt), { dtype });
  return tensor(values, { dtype });
}

/** The input of a rank. */
export function rankTensor(dtype: DType, length: number, rank: number): Tensor {
  return make(
    dtype,
    Array.from({ length }, (_, i) => element(rank, i)),
  );
}

export function digest({ data }: Tensor): string {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return new Bun.CryptoHasher("sha256").update(bytes).digest("hex").slice(0, 16);
}

/** The digests that each rank must report, computed without any communication. */
export function expectedDigests(plan: Plan, size: number): string[][] {
  const everybody = Array.from({ length: size }, (_, each) => each);
  const reduced = (dtype: DType, length: number, op: PlanOp, ranks: readonly number[]) =>
    digest(
      make(
        dtype,
        Array.from({ length }, (_, i) => ranks.map((each) => element(each, i)).reduce((a, b) => combine[op](a, b))),
      ),
    );
  const ofAll = [
    ...plan.allReduce.map(({ dtype, length, op }) => reduced(dtype, length, op, everybody)),
    ...everybody.map((src) => digest(rankTensor("int32", 1001, src))),
  ];
  return everybody.map((rank) => {
    const groups = plan.groups.filter((ranks) => ranks.includes(rank));
    const once = [...ofAll, ...groups.map((ranks) => reduced("float64", 77, "SUM", ranks))];
    return Array.from({ length: plan.repeats }, () => once).flat();
  });
}
