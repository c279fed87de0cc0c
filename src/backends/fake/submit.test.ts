import { describe, expect, test } from "bun:test";
import { type CallTerms, type OpCall, type OpName, opCall } from "../../collectives/index.ts";
import { HashStore } from "../../index.ts";
import { type Backend, systemClock } from "../../registry/index.ts";
import { CPU, type TensorStorage, viewTensor } from "../../tensor/index.ts";
import { failureOf, sourceOf, type Work } from "../../work/index.ts";
import type { FakeOptions } from "./options.ts";
import plugin from "./plugin.ts";

function connect(size: number, options: FakeOptions = {}, ranks = size, from = plugin): Promise<Backend[]> {
  const store = new HashStore();
  return Promise.all(
    Array.from({ length: ranks }, (_, rank) =>
      from.create({
        store,
        rank,
        size,
        // Ranks of calls are those in the group.
        globalRanks: Array.from({ length: size }, (_, each) => 10 + each),
        groupName: "7",
        groupDescription: "",
        device: CPU,
        timeoutMs: 1_000,
        clock: systemClock,
        options,
        logger: console,
      }),
    ),
  );
}

function call(
  op: OpName,
  outputs: readonly TensorStorage[] = [],
  inputs: readonly TensorStorage[] = [],
  terms: CallTerms = {},
): OpCall {
  const [read, written] = [inputs, outputs].map((tensors) => tensors.map((each) => viewTensor(each)));
  return opCall(op, CPU, read ?? [], written ?? [], 1_000, terms);
}

/** What a Work ended with: "ok", the code of its error, or "pending". */
function endOf(work: Work<void> | undefined): unknown {
  if (work?.isCompleted() !== true) return "pending";
  const error = failureOf(work);
  return error === undefined ? "ok" : error.code;
}

function takeAway(tensor: TensorStorage): void {
  structuredClone(tensor, { transfer: [tensor.buffer as ArrayBuffer] });
}

/** The two halves of a sparse all-reduce: how many blocks each rank has, and the blocks. */
function sparseHalves(counts: readonly number[], rank: number, size: number) {
  const own = counts[rank] ?? 0;
  const total = counts.reduce((sum, count) => sum + count, 0);
  const all = new BigInt64Array(size);
  const terms = call("allReduceSparse", [all], [BigInt64Array.of(BigInt(own))]);
  const indices = new BigInt64Array(total);
  const values = new Float32Array(2 * total);
  const parts = call(
    "allReduceSparse",
    [indices, values],
    [new BigInt64Array(own).fill(BigInt(rank)), new Float32Array(2 * own).fill(rank + 0.5)],
    { continuation: true, inputSplits: counts, outputSplits: counts },
  );
  return { terms, parts, all, indices, values };
}

describe("ranks of one thread", () => {
  test("report the capabilities of their plugin", async () => {
    const [first] = await connect(1);
    expect(first?.capabilities).toBe(plugin.capabilities);
    const claims = { ops: { barrier: [] }, reduceOps: {} };
    const [other] = await connect(1, {}, 1, { ...plugin, capabilities: claims });
    expect(other?.capabilities).toBe(claims);
  });

  test("take a batch in order, with a Work of its own for each call", async () => {
    const backends = await connect(2);
    const tensors = backends.map((_, rank) => [Float32Array.of(rank + 1), Int8Array.of(rank + 1), new Int8Array(1)]);
    const works = backends.map((backend, rank) => {
      const [sum, sent, received] = tensors[rank] as [Float32Array, Int8Array, Int8Array];
      return backend.submit([
        call("recv", [received], [], { peer: -1, tag: 3 }),
        call("allReduce", [sum]),
        call("send", [], [sent], { peer: 1 - rank, tag: 3 }),
        call("barrier"),
      ]);
    });
    expect(works.map((batch) => batch.map(endOf))).toEqual(Array(2).fill(Array(4).fill("ok")));
    expect(new Set(works.flat()).size).toBe(8);
    expect(works.map((batch) => batch.map(({ seq }) => seq))).toEqual(Array(2).fill([1, 1, 2, 2]));
    expect(works.map(([recv]) => recv && sourceOf(recv))).toEqual([1, 0]);
    expect(tensors.map(([sum, , received]) => [sum?.[0], received?.[0]])).toEqual([
      [3, 2],
      [3, 1],
    ]);
  });

  test("refuse a batch that is submitted after the end", async () => {
    const [first, second] = await connect(2);
    await second?.close();
    expect(second?.submit([call("barrier"), call("barrier")]).map(endOf)).toEqual(["GROUP_CLOSED", "GROUP_CLOSED"]);
    expect(first?.submit([call("barrier"), call("barrier")]).map(endOf)).toEqual(["PEER_LOST", "GROUP_FAILED"]);
    expect(first?.state).toBe("FAILED");
    expect(second?.submit([])).toEqual([]);
  });

  test("a call that is out of step leaves none of its batch pending", async () => {
    const [first, second] = await connect(2);
    const early = first?.submit([call("barrier"), call("barrier")]);
    const late = second?.submit([call("allReduce", [new Int8Array(1)]), call("barrier")]);
    expect([early?.map(endOf), late?.map(endOf)]).toEqual([
      ["DESYNC", "DESYNC"],
      ["DESYNC", "GROUP_FAILED"],
    ]);
  });

  test("count what a rank refused", async () => {
    const [first, second] = await connect(2);
    expect(first?.submit([call("refused")]).map(endOf)).toEqual(["ok"]);
    second?.submit([call("refused")]);
    const barriers = () => [first, second].flatMap((backend) => backend?.submit([call("barrier")]) ?? []);
    expect(barriers().map(endOf)).toEqual(["ok", "ok"]);
    second?.submit([call("refused")]);
    const works = barriers();
    expect(works.map(endOf)).toEqual(["DESYNC", "DESYNC"]);
    const error = failureOf(works[0] as Work<void>);
    expect(error?.message).toContain(
      "rank 0 called barrier() as collective #3, rank 1 called barrier() as collective #4: " +
        "rank 1 has refused 1 call more than rank 0",
    );
  });

  test("start no call of a batch whose memory is gone", async () => {
    const [first, second] = await connect(2);
    const [gone, tensor] = [new Float32Array(2), new Float32Array(2)];
    const batch = [call("broadcast", [tensor], [], { root: 0 }), call("broadcast", [gone], [], { root: 0 })];
    takeAway(gone);
    expect(first?.submit(batch).map(endOf)).toEqual(["DETACHED_BUFFER", "DETACHED_BUFFER"]);
    expect(first?.inFlight).toBe(0);
    // Those calls took their turn, which makes the ranks differ.
    first?.submit([call("barrier")]);
    expect(second?.submit([call("barrier")]).map(endOf)).toEqual(["DESYNC"]);
  });

  test("join the parts of a sparse tensor in the order of ranks", async () => {
    const counts = [2, 0, 1];
    const backends = await connect(3);
    const halves = backends.map((_, rank) => sparseHalves(counts, rank, 3));
    for (const half of ["terms", "parts"] as const) {
      const works = backends.flatMap((backend, rank) => backend.submit([(halves[rank] as (typeof halves)[0])[half]]));
      expect(works.map((work) => [endOf(work), work.seq])).toEqual(Array(3).fill(["ok", 1]));
    }
    for (const { all, indices, values } of halves) {
      expect(all).toEqual(BigInt64Array.of(2n, 0n, 1n));
      expect(indices).toEqual(BigInt64Array.of(0n, 0n, 2n));
      expect(values).toEqual(Float32Array.of(0.5, 0.5, 0.5, 0.5, 2.5, 2.5));
    }
    const next = backends.flatMap((backend) => backend.submit([call("barrier")]));
    expect(next.map((work) => [endOf(work), work.seq])).toEqual(Array(3).fill(["ok", 2]));
  });

  test("distinguish sparse tensors of other dtypes, by the second half", async () => {
    const [first, second] = await connect(2);
    const halves = [sparseHalves([1, 1], 0, 2), sparseHalves([1, 1], 1, 2)] as const;
    first?.submit([halves[0].terms]);
    second?.submit([halves[1].terms]);
    first?.submit([halves[0].parts]);
    const [indices, values] = [BigInt64Array.of(1n), Int32Array.of(1, 1)];
    const outputs = [new BigInt64Array(2), new Int32Array(4)];
    const other = call("allReduceSparse", outputs, [indices, values], { continuation: true, inputSplits: [1, 1] });
    const [work] = second?.submit([other]) ?? [];
    expect(failureOf(work as Work<void>)?.message).toContain(
      "rank 0 called allReduceSparse(float32) as collective #1, rank 1 called allReduceSparse(int32).",
    );
  });
});

describe("a rank without peers", () => {
  const alone = async (options: FakeOptions = {}) => (await connect(3, { mode: "solo", ...options }, 1))[0] as Backend;

  test("has the parts of a sparse tensor from each rank", async () => {
    const backend = await alone();
    const { terms, parts, all, indices, values } = sparseHalves([2, 2, 2], 0, 3);
    expect(backend.submit([terms]).map(endOf)).toEqual(["ok"]);
    expect(all).toEqual(BigInt64Array.of(2n, 2n, 2n));
    expect(backend.submit([parts]).map(({ seq }) => seq)).toEqual([1]);
    expect([...indices]).toEqual(Array(6).fill(0n));
    expect([...values]).toEqual(Array(12).fill(0.5));
    const uneven = sparseHalves([2, 0, 1], 0, 3);
    expect(backend.submit([uneven.parts]).map(endOf)).toEqual(["ok"]);
    expect([...uneven.values]).toEqual(Array(6).fill(0.5));
  });

  test("does not count turns and messages as collectives", async () => {
    const backend = await alone({ failAt: 1 });
    const received = call("recv", [new Int8Array(1)], [], { peer: -1 });
    const works = backend.submit([call("refused"), received, call("barrier"), call("barrier")]);
    expect(works.map(endOf)).toEqual(["ok", "ok", "INJECTED_FAILURE", "GROUP_FAILED"]);
    expect(sourceOf(works[1] as Work<void>)).toBe(1);
  });

  test("reports that memory is gone", async () => {
    const backend = await alone({ delayMs: 5 });
    const [gone, nothing] = [new Float32Array(2), new Float32Array(0)];
    const works = backend.submit([gone, nothing].map((tensor) => call("allReduce", [tensor])));
    takeAway(gone);
    takeAway(nothing);
    await backend.drained();
    expect(works.map(endOf)).toEqual(["DETACHED_BUFFER", "ok"]);
    expect(backend.state).toBe("OPEN");
  });
});
