import * as dist from "bun-c10d";

/** Statistics of the samples of all ranks. */
export interface Survey {
  readonly count: number;
  readonly mean: number;
  readonly smallest: number;
  readonly largest: number;
  /** Rank with the most samples; the lowest if there are several. */
  readonly richest: number;
}

/** The application: it joins the other ranks over Gloo, and each contributes its samples. */
export async function runSurvey(samples: Float64Array, meeting: dist.InitOptions = {}): Promise<Survey> {
  await dist.initProcessGroup({ backend: "gloo", ...meeting });
  try {
    return await survey(samples);
  } finally {
    await dist.destroyProcessGroup();
  }
}

/** The part that only needs a group. */
export async function survey(samples: Float64Array): Promise<Survey> {
  const sums = Float64Array.of(
    samples.length,
    samples.reduce((sum, x) => sum + x, 0),
  );
  const smallest = Float64Array.of(samples.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY));
  const largest = Float64Array.of(samples.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY));
  const counts = new Int32Array(dist.getWorldSize());
  await Promise.all([
    dist.allReduce(sums),
    dist.allReduce(smallest, { op: dist.ReduceOp.MIN }),
    dist.allReduce(largest, { op: dist.ReduceOp.MAX }),
    dist.allGatherIntoTensor(counts, Int32Array.of(samples.length)),
  ]);
  const [count = 0, sum = 0] = sums;
  if (count === 0) throw new RangeError("no rank has any samples");
  return {
    count,
    mean: sum / count,
    smallest: smallest[0] ?? Number.NaN,
    largest: largest[0] ?? Number.NaN,
    richest: counts.indexOf(Math.max(...counts)),
  };
}
