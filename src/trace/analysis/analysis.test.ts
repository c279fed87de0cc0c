import { describe, expect, test } from "bun:test";
import { MadeJob } from "../fixtures/made-job.ts";
import { analyse } from "./analysis.ts";

const texts = (job: MadeJob): readonly string[] => analyse(job.traces()).findings.map(({ text }) => text);

describe("a rank that is missing", () => {
  test("is named with the op, the ranks that wait, their line and its own last op", () => {
    const job = new MadeJob(4);
    job.all({ name: "broadcast", line: "load.ts:8", root: 0 });
    for (const rank of [0, 1, 3]) job.rank(rank).call({ state: "scheduled", at: 47_700 });
    const { findings, absent, inFlight } = analyse(job.traces());
    expect(findings).toHaveLength(1);
    expect(findings[0]).toMatchObject({
      kind: "missing",
      seq: 2,
      ranks: [2],
      text:
        "group 0 (default_pg): rank 2 has not called all_reduce #2; ranks 0, 1, 3 have waited in it for 12.3 s " +
        "(train.ts:41). Rank 2's last op: broadcast #1, completed 1 min 0 s ago (load.ts:8).",
    });
    expect([absent, inFlight]).toEqual([[], []]);
  });

  test("that called nothing, or is in another group", () => {
    const job = new MadeJob(3);
    job.group("1", "evens", [0, 2]);
    job.all({ group: "1", state: "scheduled", line: "evens.ts:3", at: 1000 }, [0]);
    job.rank(2).call({ state: "scheduled", at: 2000 });
    const [first, second] = texts(job);
    expect(first).toContain(
      "group 0 (default_pg): ranks 0, 1 have not called all_reduce #1; rank 2 has waited in it for 58 s",
    );
    expect(first).toContain("Rank 0's last op: all_reduce #1 of group 1 (evens), in flight for 59 s (evens.ts:3).");
    expect(first).toContain("Rank 1 has called no op.");
    expect(second).toStartWith("group 1 (evens): rank 2 has not called all_reduce #1; rank 0 has waited in it");
  });

  test("where the op has failed on the others", () => {
    const job = new MadeJob(3);
    job.all();
    for (const rank of [0, 1]) job.rank(rank).call({ state: "failed", ms: 2000, error: "timed out.", timeoutMs: 2000 });
    const [text] = texts(job);
    expect(text).toContain(
      "rank 2 has not called all_reduce #2; all_reduce #2 failed after 2 s on ranks 0, 1 (train.ts:41): timed out. Rank 2's last op",
    );
    expect(texts(job)).toHaveLength(1);
  });

  test("where PyTorch's Gloo backend does not say that the op has failed", () => {
    const job = new MadeJob(2);
    job.rank(0).writer = "pytorch";
    job.rank(0).call({ state: "ended" });
    job.rank(1).call();
    job.rank(0).call({ state: "ended", timeoutMs: 2000 });
    expect(texts(job)).toEqual([
      "group 0 (default_pg): rank 1 has not called all_reduce #2; rank 0 called it, and it is no longer in flight " +
        "(train.ts:41). Rank 1's last op: all_reduce #1, completed 1 min 0 s ago (train.ts:41).",
    ]);
  });

  test("soon after it has failed", () => {
    const job = new MadeJob(2);
    job.rank(0).call({ state: "failed", at: 1000, ms: 100 });
    for (const { rank } of job.ranks) job.rank(rank).dumpedAt = 1200;
    expect(texts(job)).toHaveLength(1);
    expect(texts(job)[0]).toContain("rank 1 has not called all_reduce #1");
  });

  test("where no dump lists the members of the default group", () => {
    const job = new MadeJob(3);
    for (const { rank } of job.ranks) job.rank(rank).writer = "pytorch";
    job.all({ state: "scheduled" }, [0, 2]);
    const { findings, notes } = analyse(job.traces());
    expect(findings).toMatchObject([{ kind: "missing", ranks: [1] }]);
    expect(notes).toEqual([
      "No dump lists the members of some groups, which are taken to be the ranks that used them: 0 (ranks 0-2).",
    ]);
  });

  test("of two that are missing at different ops, the earlier op is named", () => {
    const job = new MadeJob(4);
    job.all();
    job.all({ state: "scheduled" }, [0, 1, 2]);
    job.all({ state: "scheduled" }, [0, 1]);
    expect(analyse(job.traces()).findings).toMatchObject([{ seq: 2, ranks: [3] }]);
  });

  test("and left no dump", () => {
    const job = new MadeJob(3);
    job.all();
    job.all({ state: "scheduled" }, [0, 1]);
    const { findings, absent } = analyse(job.traces().filter(({ rank }) => rank !== 2));
    expect(absent).toEqual([2]);
    expect(findings).toMatchObject([{ kind: "absent", ranks: [2] }]);
    expect(findings[0]?.text).toContain(
      "rank 2 left no dump and may not have called all_reduce #2; ranks 0, 1 have waited in it",
    );
  });
});

describe("ranks that made different calls", () => {
  test("of another op", () => {
    const job = new MadeJob(4);
    job.all();
    job.all({ state: "scheduled" }, [0, 1, 3]);
    job.rank(2).call({ name: "broadcast", state: "failed", error: "DESYNC", line: "load.ts:8" });
    const [finding, ...others] = analyse(job.traces()).findings;
    expect(others).toEqual([]);
    expect(finding).toMatchObject({ kind: "mismatch", seq: 2, ranks: [2], differences: ["op"] });
    expect(finding?.text).toBe(
      "group 0 (default_pg): ranks made different calls as #2: ranks 0, 1, 3 all_reduce (train.ts:41), rank 2 broadcast " +
        "(load.ts:8). Rank 2: DESYNC",
    );
  });

  test.each([
    ["input sizes, output sizes", { inputs: [[5]] }, "ranks 0, 1 [4] (train.ts:41), rank 2 [5]"],
    ["dtypes", { dtype: "Double" }, "ranks 0, 1 Float (train.ts:41), rank 2 Double"],
    ["reduce op", { reduceOp: "MAX" }, "ranks 0, 1 SUM (train.ts:41), rank 2 MAX"],
    ["root", { root: 2 }, "ranks 0, 1 root 1 (train.ts:41), rank 2 root 2"],
  ])("with another %s", (what, other, sides) => {
    const job = new MadeJob(3);
    job.all({ reduceOp: "SUM", root: 1 }, [0, 1]);
    job.rank(2).call({ reduceOp: "SUM", root: 1, ...other });
    expect(texts(job)).toEqual([
      `group 0 (default_pg): ranks called all_reduce #1 with different ${what}: ${sides} (train.ts:41).`,
    ]);
  });

  test("one of which left out a call, or made one too many", () => {
    const left = new MadeJob(3);
    left.all({ name: "barrier" }, [0, 1]);
    left.all({ inputs: [[7]] });
    left.all({ inputs: [[9]] });
    const [text, ...rest] = texts(left);
    expect(text).toContain("It looks as if rank 2 left out barrier #1: the next call of the others is the same.");
    expect(text).toContain("1 later collective differs too.");
    expect(rest).toEqual([]);
    const more = new MadeJob(3);
    more.rank(2).call({ name: "barrier" });
    more.all({ inputs: [[7]] });
    expect(texts(more)[0]).toContain("rank 2 made one call too many, barrier #1: the next one is that of the others.");
  });

  test("one on each side: none is blamed", () => {
    const job = new MadeJob(2);
    job.all();
    job.rank(0).call({ name: "barrier" });
    job.rank(1).call({ name: "broadcast", root: 0 });
    expect(analyse(job.traces()).findings).toMatchObject([{ kind: "mismatch", ranks: [0, 1] }]);
    expect(texts(job)[0]).not.toContain("It looks as if");
    const ahead = new MadeJob(3);
    ahead.rank(0).call({ name: "barrier" });
    ahead.all({ inputs: [[7]] });
    const dumps = ahead.traces().slice(0, 2);
    const { findings } = analyse(dumps);
    expect(findings).toMatchObject([{ kind: "mismatch", ranks: [0, 1] }]);
    const either = "rank 1 left out barrier #1, or rank 0 made one call too many";
    expect(findings[0]?.text).toContain(`It looks as if ${either}: the next call of rank 0 is that of rank 1.`);
    const other = new MadeJob(2);
    other.rank(1).call({ name: "barrier" });
    other.all({ inputs: [[7]] });
    expect(texts(other)[0]).toContain(
      "It looks as if rank 0 left out barrier #1, or rank 1 made one call too many: the next call of rank 1 is that of rank 0.",
    );
  });

  test("one on each side, by what all of them call next", () => {
    const swapped = new MadeJob(2);
    for (const [rank, sizes] of [
      [0, [7, 8, 9]],
      [1, [8, 7, 9]],
    ] as const) {
      for (const size of sizes) swapped.rank(rank).call({ inputs: [[size]] });
    }
    expect(texts(swapped)[0]).toContain(
      "It looks as if the ranks called all_reduce #1 and all_reduce #1 in a different order.",
    );
    const turns = new MadeJob(2);
    for (let i = 0; i < 6; i++) {
      turns.rank(0).call({ inputs: [[7 + (i % 2)]] });
      turns.rank(1).call({ inputs: [[8 - (i % 2)]] });
    }
    expect(texts(turns)[0]).toContain("It looks as if rank 0 or rank 1 left out a call, or made one too many.");
    // The next call of rank 0 is that of rank 1, but not the one after it.
    const unlike = new MadeJob(2);
    for (const size of [7, 8, 9]) unlike.rank(0).call({ inputs: [[size]] });
    for (const size of [8, 6, 5]) unlike.rank(1).call({ inputs: [[size]] });
    expect(texts(unlike)[0]).not.toContain("It looks as if");
  });

  test("whose all-to-all does not add up", () => {
    const job = new MadeJob(2);
    job.rank(0).call({ name: "all_to_all", inputs: [[3]], outputs: [[4]] });
    job.rank(1).call({ name: "all_to_all", inputs: [[5]], outputs: [[5]] });
    expect(texts(job)).toEqual([
      "group 0 (default_pg): in all_to_all #1 the ranks send 8 elements and receive 9 (train.ts:41).",
    ]);
  });
});

describe("a rank without a dump whose call is in the errors of others", () => {
  const advice = "All ranks must call the same collectives in the same order";
  const without = (job: MadeJob, ...ranks: readonly number[]) =>
    analyse(job.traces().filter(({ rank }) => !ranks.includes(rank)));

  test("is compared like the others", () => {
    const job = new MadeJob(3);
    job.all();
    const error = `rank 0 called allReduce(float32[4], SUM) as collective #2, rank 1 called allReduce(float32[4], AVG). ${advice}`;
    job.all({ state: "failed", error, reduceOp: "SUM" });
    const { findings, absent } = without(job, 1);
    expect(findings).toMatchObject([
      {
        kind: "mismatch",
        seq: 2,
        ranks: [1],
        differences: ["reduce op"],
        sides: [{ ranks: [0, 2] }, { ranks: [1], op: { kind: "all_reduce", reduceOp: "AVG", inputDtypes: ["Float"] } }],
      },
    ]);
    expect(findings[0]?.text).toBe(
      "group 0 (default_pg): ranks called all_reduce #2 with different reduce op: ranks 0, 2 SUM (train.ts:41), rank 1 AVG. " +
        `What rank 1 called is in the errors of others, not in a dump. Rank 0: ${error}`,
    );
    expect(absent).toEqual([1]);
  });

  test.each([
    ["barrier()", "op"],
    ["allToAll(float32)", "op"],
    ["allReduce(float32[5], SUM)", "input sizes, output sizes"],
    ["allReduce(int64[4], SUM)", "dtypes"],
    ["allReduce(float32[4], PREMUL_SUM(0.5))", "reduce op"],
    ["allReduceCoalesced(3 tensors of float32, 12 elements, SUM)", "input sizes, output sizes"],
    ["reduce(float32[4], SUM, root 0)", "op"],
  ])("whatever it called: %s", (call, differs) => {
    const job = new MadeJob(2);
    const error = `rank 0 called allReduce(float32[4], SUM) as collective #1, rank 1 called ${call}. ${advice}`;
    job.rank(0).call({ state: "failed", error, reduceOp: "SUM" });
    const [finding] = without(job, 1).findings;
    expect(finding).toMatchObject({ kind: "mismatch", ranks: [0, 1], sides: [{ ranks: [0] }, { ranks: [1] }] });
    expect(finding?.differences?.join(", ")).toBe(differs);
  });

  test("by its rank in the group, and the number of the call that differs", () => {
    const job = new MadeJob(4);
    job.group("1", "pair", [1, 3]);
    const error = `rank 0 called broadcast(float32[4], root 0) as collective #1, rank 1 called barrier(). ${advice}`;
    // The root only sends, so that its next op fails.
    job.rank(1).call({ name: "broadcast", root: 0, group: "1" });
    job.rank(1).call({ group: "1", state: "failed", error });
    expect(without(job, 3).findings).toMatchObject([
      { kind: "mismatch", seq: 1, sides: [{ ranks: [1] }, { ranks: [3], op: { name: "barrier" } }] },
    ]);
  });

  test("two of them, of which a third rank heard", () => {
    const job = new MadeJob(3);
    const error = `rank 0 called barrier() as collective #1, rank 1 called allReduce(float32[4], SUM). ${advice}`;
    job.rank(2).call({ state: "failed", error, reduceOp: "SUM" });
    expect(without(job, 0, 1).findings).toMatchObject([
      { kind: "mismatch", ranks: [0], sides: [{ ranks: [2, 1] }, { ranks: [0] }] },
    ]);
  });

  test("at debug level DETAIL", () => {
    const job = new MadeJob(2);
    const tensors = "TensorShape=[4], TensorDtypes=Float, TensorDeviceTypes=TensorOptions(dtype=float (default))";
    const error =
      `Detected mismatch between collectives on ranks. Rank 0 is running collective: CollectiveFingerPrint(SequenceNumber=0, ` +
      `OpType=ALLREDUCE, ${tensors}), but Rank 1 is running collective: CollectiveFingerPrint(SequenceNumber=0OpType=BARRIER).`;
    job.rank(0).call({ state: "failed", error });
    expect(without(job, 1).findings).toMatchObject([
      { kind: "mismatch", differences: ["op"], sides: [{ ranks: [0] }, { ranks: [1], op: { name: "barrier" } }] },
    ]);
  });

  test("whose call cannot be told from the others': what failed is told, not that it may not have called", () => {
    const job = new MadeJob(2);
    const error =
      "rank 0 called allToAll(float32) as collective #1, rank 1 called allToAll(float32), but rank 0 sends float32[4] to " +
      "rank 1, which expects float32[3]";
    job.rank(0).call({ name: "all_to_all", state: "failed", error });
    expect(without(job, 1).findings).toMatchObject([{ kind: "failed", seq: 1 }]);
  });

  test("that no error names", () => {
    const job = new MadeJob(3);
    const error = `rank 0 called barrier() as collective #1, rank 1 called allReduce(float32[4], SUM). ${advice}`;
    job.all({ state: "failed", error: "the connection to rank 1 broke" }, [0]);
    expect(without(job, 1, 2).findings).toMatchObject([{ kind: "absent", ranks: [1, 2] }]);
    // That of another collective says nothing of this one.
    const later = new MadeJob(3);
    later.all({ seq: 5, state: "failed", error: `it has failed before (${error})` }, [2]);
    expect(without(later, 0, 1).findings).toMatchObject([{ kind: "absent", seq: 5, ranks: [0, 1] }]);
  });
});

describe("what is no fault", () => {
  test("an all-to-all of which a dump is missing", () => {
    const job = new MadeJob(3);
    for (const { rank } of job.ranks) job.rank(rank).call({ name: "all_to_all", inputs: [[rank]], outputs: [[1]] });
    expect(texts(job)).toEqual([]);
    expect(analyse(job.traces().slice(1)).findings).toEqual([]);
  });

  test("sizes that may differ, and names and shapes of PyTorch's ranks", () => {
    const job = new MadeJob(3);
    for (const { rank } of job.ranks) {
      const made = job.rank(rank);
      const isRoot = rank === 1;
      made.call({ name: "gather", inputs: [[4]], outputs: isRoot ? [[12]] : [[0]] });
      made.call({ name: "scatter", inputs: isRoot ? [[4], [4], [4]] : [], outputs: [[4]] });
      made.call({ name: "all_to_all", inputs: [[rank + 1]], outputs: [[2]] });
      made.call({ name: "reduce_scatter_v", inputs: [[1], [2], [3]], outputs: [[rank + 1]] });
      made.call({
        name: rank === 0 ? "all_gather" : "_all_gather_base",
        inputs: [rank === 0 ? [2, 2] : [4]],
        outputs: [[12]],
      });
      made.call({
        name: "all_reduce",
        inputs: rank === 0 ? [[4, 2]] : [[4]],
        dtype: rank === 0 ? "Float" : "ComplexFloat",
      });
      made.call({ name: rank === 0 ? "allreduce_coalesced" : "all_reduce", inputs: rank === 0 ? [[1], [3]] : [[4]] });
      made.call({ name: "broadcast", inputs: rank === 0 ? [] : [[9]] });
    }
    const { findings, inFlight } = analyse(job.traces());
    expect([findings, inFlight]).toEqual([[], []]);
  });

  test("ranks whose rings hold different parts, and a subgroup that some are in", () => {
    const job = new MadeJob(4);
    job.group("1", "evens", [0, 2]);
    for (let i = 0; i < 20; i++) {
      job.all({ group: "1", inputs: [[i]] });
      job.all({ inputs: [[i]] });
      if (i % 3 === 0) job.all({ group: "1", name: "barrier" });
    }
    for (const { rank } of job.ranks) job.rank(rank).capacity = 5 + 3 * rank;
    const { findings, inFlight, notes } = analyse(job.traces());
    expect([findings, inFlight]).toEqual([[], []]);
    expect(notes).toEqual(["Older ops of ranks 0-3 were overwritten; what they were is not checked."]);
  });

  test("a ring in which nothing of a group is left", () => {
    const job = new MadeJob(2);
    job.group("1", "pair", [0, 1]);
    job.all({ group: "1" });
    for (let i = 0; i < 9; i++) job.all();
    job.rank(0).capacity = 4;
    expect(texts(job)).toEqual([]);
    job.rank(1).call({ group: "1", state: "scheduled", at: 10_000 });
    job.rank(0).dumpedAt = 12_000;
    expect(texts(job)).toEqual([]);
    job.rank(0).dumpedAt = 60_000;
    expect(texts(job)).toEqual([
      "group 1 (pair): rank 0, whose dump has none of the collectives of the group left, may not have called all_reduce #2; rank 1 has waited in it for 50 s (train.ts:41).",
    ]);
  });

  test("a running job, whose ranks are dumped at different times", () => {
    const job = new MadeJob(3);
    for (let i = 0; i < 50; i++) job.all({ at: i * 1000 });
    job.rank(0).call({ state: "scheduled", at: 50_000 });
    job.rank(1).call({ state: "scheduled", at: 50_010 });
    job.rank(0).dumpedAt = 52_000;
    job.rank(1).dumpedAt = 52_500;
    // Much earlier than the call of the others: its dump says nothing of it.
    job.rank(2).dumpedAt = 49_900;
    const { findings, inFlight } = analyse(job.traces());
    expect(findings).toEqual([]);
    expect(inFlight).toEqual([
      "group 0 (default_pg): all_reduce #51 is in flight; ranks 0, 1 have waited in it for 2.5 s (train.ts:41); rank 2 has not " +
        "called it yet.",
    ]);
    // Dumped an hour later, rank 0 alone is no proof against rank 2 either.
    job.rank(0).dumpedAt = 4_000_000;
    expect(texts(job)).toEqual([]);
    job.rank(2).dumpedAt = 4_000_000;
    expect(texts(job)).toHaveLength(1);
  });

  test("a rank that is always later than another one of its host", () => {
    const job = new MadeJob(2);
    for (let i = 0; i < 5; i++) {
      job.rank(0).call({ at: i });
      job.rank(1).call({ at: i, ms: 5000 });
    }
    expect(analyse(job.traces()).job.commonTime(1, 7)).toBe(7);
    job.rank(1).host = "b";
    expect(analyse(job.traces()).job.commonTime(1, 7)).toBe(7 - 4999);
  });

  test("clocks that differ", () => {
    const job = new MadeJob(2);
    job.rank(1).host = "b";
    for (const clock of [-3_600_000, 3_600_000]) {
      job.rank(1).clockMs = clock;
      job.all();
    }
    const skewed = new MadeJob(2);
    skewed.rank(1).host = "b";
    skewed.rank(1).clockMs = 3_600_000;
    for (let i = 0; i < 5; i++) skewed.all({ at: i * 10 });
    skewed.rank(0).call({ state: "scheduled", at: 59_000 });
    // By its own clock, rank 1's dump is of an hour later.
    expect(texts(skewed)).toEqual([]);
    skewed.rank(0).dumpedAt = 75_000;
    skewed.rank(1).dumpedAt = 75_000;
    expect(texts(skewed)).toHaveLength(1);
  });

  test("a broadcast whose root did not wait", () => {
    const job = new MadeJob(3);
    job.all();
    job.rank(0).call({ name: "broadcast" });
    const { findings, inFlight } = analyse(job.traces());
    expect([findings, inFlight]).toEqual([[], []]);
    // PyTorch's Gloo backend says only that it is over.
    const torch = new MadeJob(2);
    torch.rank(0).writer = "pytorch";
    torch.rank(0).call({ name: "broadcast", state: "ended" });
    expect(texts(torch)).toEqual([]);
  });

  test("dumps of active ops only", () => {
    const job = new MadeJob(3);
    for (let i = 0; i < 5; i++) job.all();
    job.all({ state: "scheduled", at: 10_000 }, [0, 1]);
    for (const { rank } of job.ranks) job.rank(rank).onlyActive = true;
    const { findings, notes } = analyse(job.traces());
    expect(findings).toEqual([]);
    expect(notes).toContain("The dumps of ranks 0-2 leave out ops, as those of active ops do.");
  });

  test("a collective that PyTorch's Gloo backend does not record", () => {
    const job = new MadeJob(2);
    job.rank(0).writer = "pytorch";
    job.all({ seq: 1 });
    job.rank(1).call({ name: "barrier", seq: 2 });
    job.all({ seq: 4 });
    expect(texts(job)).toEqual([]);
  });

  test("ops that PyTorch's Gloo backend makes of others, and numbers otherwise", () => {
    const job = new MadeJob(2);
    const [ours, theirs] = [job.rank(0), job.rank(1)];
    theirs.writer = "pytorch";
    ours.call({ name: "reduce_scatter", api: "reduceScatter", inputs: [[6]], outputs: [[3]] });
    for (let i = 0; i < 2; i++) theirs.call({ inputs: [[3]] });
    ours.call({ name: "barrier", api: "monitoredBarrier" });
    ours.call({ name: "_reduce_scatter_base", api: "reduceScatterTensor", inputs: [[8]], outputs: [[4]] });
    theirs.call({ inputs: [[8]], seq: 5 });
    job.all({ inputs: [[9]] }, [0]);
    theirs.call({ inputs: [[9]], seq: 6 });
    expect(texts(job)).toEqual([]);
    ours.call({ name: "reduce_scatter_v", api: "reduceScatter", inputs: [[1], [2]], outputs: [] });
    theirs.call({ inputs: [[1]], seq: 7 });
    theirs.call({ inputs: [[3]], seq: 8 });
    expect(texts(job)[0]).toContain("ranks called all_reduce #8 with different input sizes, output sizes: rank 0 [2]");
    // What the overwritten ones were, and so the numbers of the others, is not known.
    ours.capacity = 3;
    expect(texts(job)).toEqual([]);
  });

  test("ops coalesced under one number", () => {
    const job = new MadeJob(2);
    job.all({ inputs: [[2]], seq: 1 });
    job.all({ inputs: [[3]], seq: 1 });
    job.rank(0).call({ name: "coalesced", seq: 1 });
    expect(texts(job)).toEqual([]);
    job.rank(0).call({ inputs: [[2]], seq: 2 });
    job.rank(0).call({ inputs: [[3]], seq: 2 });
    job.rank(1).call({ inputs: [[2]], seq: 2 });
    job.rank(1).call({ inputs: [[4]], seq: 2 });
    expect(texts(job)[0]).toContain("different input sizes, output sizes: rank 0 [2] [3]");
  });
});

describe("messages", () => {
  test("that cross, with tags and to any rank, are paired", () => {
    const job = new MadeJob(3);
    for (let i = 0; i < 4; i++) {
      job.rank(0).call({ name: "send", peer: 1, inputs: [[i]] });
      job.rank(1).call({ name: "send", peer: 0, inputs: [[9]] });
      job.rank(0).call({ name: "recv", peer: 1, outputs: [[9]] });
      job.rank(1).call({ name: "recv", peer: 0, outputs: [[i]] });
    }
    job.rank(2).call({ name: "send", peer: 1, tag: 7 });
    job.rank(1).call({ name: "recv", tag: 7, state: "scheduled" });
    const { findings, inFlight, notes } = analyse(job.traces());
    expect(findings).toEqual([]);
    expect(inFlight).toEqual([
      "group 0 (default_pg): on rank 1 recv from any rank (tag 7) has waited for 52 s (train.ts:41).",
    ]);
    expect(notes).toEqual(["group 0 (default_pg): rank 1 has not received a message of rank 2 (tag 7)."]);
  });

  test("that a pending recv from any rank may still take", () => {
    const job = new MadeJob(2);
    job.rank(0).call({ name: "send", peer: 1, state: "scheduled" });
    expect(texts(job)).toHaveLength(1);
    job.rank(1).call({ name: "recv", state: "scheduled" });
    expect(texts(job)).toEqual([]);
  });

  test("without a partner", () => {
    const job = new MadeJob(2);
    job.all({ name: "barrier" });
    job.rank(1).call({ name: "recv", peer: 0, tag: 3, state: "scheduled", line: "pipe.ts:9" });
    expect(analyse(job.traces()).findings).toMatchObject([
      {
        kind: "message",
        ranks: [0],
        text:
          "group 0 (default_pg): on rank 1 recv from rank 0 (tag 3) has waited for 59 s (pipe.ts:9); rank 0 has not sent it. " +
          "Rank 0's last op: barrier #1, completed 1 min 0 s ago (train.ts:41).",
      },
    ]);
    job.rank(1).dumpedAt = 2000;
    job.rank(0).dumpedAt = 2000;
    const { findings, inFlight } = analyse(job.traces());
    expect([findings, inFlight.length]).toEqual([[], 1]);
  });

  test("of different sizes or dtypes", () => {
    const job = new MadeJob(2);
    job.rank(0).call({ name: "send", peer: 1 });
    job.rank(1).call({ name: "recv", peer: 0, outputs: [[5]], line: "pipe.ts:9" });
    job.rank(0).call({ name: "send", peer: 1 });
    job.rank(1).call({ name: "recv", peer: 0, dtype: "Half" });
    expect(texts(job)).toEqual([
      "group 0 (default_pg): rank 0 sends Float [4] (train.ts:41), rank 1 receives Float [5] (pipe.ts:9).",
      "group 0 (default_pg): rank 0 sends Float [4] (train.ts:41), rank 1 receives Half [4] (train.ts:41).",
    ]);
  });

  test("of which a ring has lost the first ones", () => {
    const job = new MadeJob(2);
    for (let i = 0; i < 9; i++) {
      job.rank(0).call({ name: "send", peer: 1, inputs: [[i]] });
      job.rank(1).call({ name: "recv", peer: 0, outputs: [[i]] });
    }
    job.rank(1).capacity = 4;
    expect(analyse(job.traces()).notes).toHaveLength(1);
    job.rank(0).capacity = 3;
    expect(texts(job)).toEqual([]);
    // PyTorch does not number the messages between two ranks.
    const unnumbered = job.traces().map((trace) => ({
      ...trace,
      ops: trace.ops.map((op) => ({ ...op, ...(op.message && { message: { ...op.message, number: 0 } }) })),
    }));
    expect(analyse(unnumbered).findings).toEqual([]);
    for (let i = 0; i < 9; i++) job.rank(1).call({ name: "recv", peer: 0, tag: 1, state: "scheduled", at: 59_000 });
    job.rank(1).capacity = 3;
    expect(analyse(job.traces()).notes).toEqual([
      "Older ops of ranks 0, 1 were overwritten; what they were is not checked.",
    ]);
  });

  test("with a rank that records none", () => {
    const job = new MadeJob(2);
    job.rank(0).writer = "pytorch";
    job.all({ state: "ended" });
    job.rank(1).call({ name: "recv", peer: 0, state: "scheduled" });
    job.rank(1).call({ name: "send", peer: 0 });
    const { findings, notes } = analyse(job.traces());
    expect([findings, notes]).toEqual([[], []]);
  });
});

describe("an op that fails or does not end, though all ranks have called it", () => {
  test("failed", () => {
    const job = new MadeJob(2);
    job.all();
    job.all({ state: "failed", error: "rank 1 is gone" }, [0]);
    job.all({ state: "scheduled" }, [1]);
    job.all({ state: "failed", error: "the group has failed" }, [0]);
    expect(texts(job)).toEqual([
      "group 0 (default_pg): all_reduce #2 failed after 1 ms on rank 0 (train.ts:41): rank 1 is gone.",
    ]);
  });

  test("is in flight for minutes", () => {
    const job = new MadeJob(2);
    job.all({ state: "scheduled" });
    for (const { rank } of job.ranks) job.rank(rank).dumpedAt = 30_000;
    expect(texts(job)).toEqual([]);
    for (const { rank } of job.ranks) job.rank(rank).dumpedAt = 125_000;
    expect(texts(job)).toEqual([
      "group 0 (default_pg): all ranks have called all_reduce #1, and it does not end; ranks 0, 1 have waited in it for 2 min 5 s " +
        "(train.ts:41).",
    ]);
  });
});

test("dumps that may be of an earlier run", () => {
  const job = new MadeJob(3);
  job.all();
  job.rank(2).dumpedAt = 7_200_000;
  const notes = ["The dumps of ranks 0, 1 are up to 1 h 59 min older than the newest one: are they of this run?"];
  expect(analyse(job.traces())).toMatchObject({ findings: [], notes } as never);
});

test("only one group is looked at", () => {
  const job = new MadeJob(2);
  job.group("1", "pair", [0, 1]);
  job.rank(0).call({ state: "scheduled" });
  job.rank(0).call({ group: "1", state: "scheduled" });
  expect(analyse(job.traces()).findings).toHaveLength(2);
  for (const group of ["1", "pair"]) {
    expect(analyse(job.traces(), { group }).findings).toMatchObject([{ group: { uid: "1" } }]);
  }
});

test("the dumps of 256 ranks with 2000 ops each take about a second of processor time", () => {
  const one = new MadeJob(256);
  for (let i = 0; i < 2000; i++) one.rank(0).call({ at: i });
  const first = one.rank(0).trace();
  const traces = Array.from({ length: 256 }, (_, rank) => ({ ...first, rank }));
  // Processor time, as other load takes none of it. Analysing each pair of ranks would take minutes.
  const before = process.cpuUsage();
  const { findings } = analyse(traces);
  const { user, system } = process.cpuUsage(before);
  expect(findings).toEqual([]);
  expect((user + system) / 1e6).toBeLessThan(10);
}, 60_000);
