import { describe, expect, test } from "bun:test";
import { pickle, unpickle } from "../../pickle/index.ts";
import { analyse } from "../analysis/analysis.ts";
import { Job } from "../analysis/job.ts";
import { MadeJob } from "../fixtures/made-job.ts";
import { kinetoTrace } from "./kineto.ts";
import { portableDump } from "./portable-dump.ts";
import { report } from "./report.ts";
import { reportJson } from "./report-json.ts";

function desync(): MadeJob {
  const job = new MadeJob(4);
  job.all();
  job.all({ state: "scheduled", reduceOp: "SUM", inputs: [[128, 1024]] }, [0, 1, 3]);
  job.rank(2).call({ name: "broadcast", root: 2, state: "failed", error: "DESYNC", line: "load.ts:8" });
  return job;
}

describe("the report", () => {
  test("of a desync, in 80 columns", () => {
    const text = report(analyse(desync().traces()), { last: 1 });
    expect(text).toBe(`group 0 (default_pg): ranks made different calls as #2: ranks 0, 1, 3 all_reduce
(train.ts:41), rank 2 broadcast (load.ts:8). Rank 2: DESYNC

group 0 (default_pg), #2:
                ranks 0, 1, 3                   rank 2
* op            all_reduce                      broadcast
  input sizes   [128, 1024]                     [4]
  output sizes  [128, 1024]                     [4]
  dtypes        Float                           Float
  reduce op     SUM
  root                                          2
  state         scheduled                       failed
  called at     /job/train.ts:41                /job/load.ts:8

Last op of each rank:
  rank 0  all_reduce #2  in flight for 59 s  train.ts:41
  rank 1  all_reduce #2  in flight for 59 s  train.ts:41
  rank 2  broadcast #2   failed 59 s ago     load.ts:8
  rank 3  all_reduce #2  in flight for 59 s  train.ts:41

Rank 0, newest last (rank_0):
  all_reduce #2  in flight for 59 s  train.ts:41

Rank 1, newest last (rank_1):
  all_reduce #2  in flight for 59 s  train.ts:41

Rank 2, newest last (rank_2):
  broadcast #2  failed 59 s ago  load.ts:8

Rank 3, newest last (rank_3):
  all_reduce #2  in flight for 59 s  train.ts:41`);
  });

  test("of a call that another rank's error names", () => {
    const job = new MadeJob(2);
    const error = "rank 0 called allReduce(float32[4], SUM) as collective #1, rank 1 called barrier()";
    job.rank(0).call({ state: "failed", error, reduceOp: "SUM" });
    const analysis = analyse(job.traces().slice(0, 1));
    const text = report(analysis);
    expect(text).toContain("* op            all_reduce                      barrier\n");
    expect(text).toContain("  input sizes   [4]\n");
    expect(text).toContain("  state         failed                          unknown: no dump\n");
    expect(reportJson(analysis)).toMatchObject({
      findings: [
        { sides: [{ op: { state: "failed", timeoutMs: 1_800_000 } }, { op: { name: "barrier", callSite: null } }] },
      ],
      absent: [1],
    });
  });

  test.each([
    ["newcomer/nc/train.ts:24", "/job/newcomer/nc/train.ts:24"],
    ["work/wt/newcomer/nc/train.ts:24", "…/wt/newcomer/nc/train.ts:24"],
    ["work/wt/newcomer/nc/code/train.ts:24", "…/newcomer/nc/code/train.ts:24"],
    ["a/train_the_large_model_s.ts:24", "…/train_the_large_model_s.ts:24"],
    ["a/train_the_large_model_too.ts:24", "train_the_large_model_too.ts:24"],
    ["a/train_the_large_model_too_.ts:24", "train_the_large_model_too_.ts :24"],
    ["a/train_the_large_model_with_all_layers.ts:24", "train_the_large_model_with_all_ layers.ts:24"],
  ])("shows file name and line whole: %s", (line, shown) => {
    const job = new MadeJob(2);
    job.rank(0).call({ name: "barrier" });
    job.rank(1).call({ line });
    const [, site = "", rest = ""] =
      /called at {5}.{32}(\S+)(?:\n {48}(\S+))?\n\n/.exec(report(analyse(job.traces()))) ?? [];
    expect(`${site} ${rest}`.trim()).toBe(shown);
  });

  test("never cuts the line number of a last op", () => {
    const job = new MadeJob(2);
    const uid = "a_group_with_a_name_that_takes_a_lot";
    job.group(uid, uid, [0, 1]);
    job.all({ group: uid, name: "reduce_scatter_tensor_coalesced", line: "train.ts:24" });
    const text = report(analyse(job.traces()));
    expect(text).toMatch(/^ {2}rank 1 .{60,}…\n {4}train.ts:24$/m);
    expect(text.split("\n").filter((line) => line.length > 80)).toEqual([]);
  });

  test("of ranks that agree", () => {
    const job = new MadeJob(2);
    job.all();
    expect(report(analyse(job.traces()))).toStartWith("All ranks agree: 2 dumps with 2 ops.\n");
    const [first] = job.traces();
    const text = report(analyse(first === undefined ? [] : [first]));
    expect(text).toStartWith("The dumps that can be read agree: 1 dump with 1 op.\n\nNo dump of rank 1.");
  });

  test("of dumps without an op", () => {
    const [one, ...others] = new MadeJob(1).traces();
    expect(others).toEqual([]);
    expect(report(analyse(one === undefined ? [] : [one]))).toBe(`There is nothing to compare: 1 dump with 0 ops.

Last op of each rank:
  rank 0  no op

No op of rank 0 was recorded; a group may have failed before it had one.`);
  });

  test("never leaves 80 columns, nor lets a dump write to the terminal", () => {
    const job = new MadeJob(2);
    const nasty = "\u001b[31m\u202e".repeat(60);
    job.group("1", nasty, [0, 1]);
    job.all({ group: "1", line: `${nasty}:1`, state: "failed", error: nasty });
    job.rank(0).call({ line: `${"long".repeat(99)}:1`, reduceOp: nasty, group: "1" });
    job.rank(1).call({ reduceOp: "SUM", group: "1" });
    const text = report(analyse(job.traces()), { last: 9 });
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
    expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u202e]/);
    expect(text.split("\n").filter((line) => line.length > 80)).toEqual([]);
    expect(text).toContain("[31m");
  });

  test("as JSON", () => {
    const value = JSON.parse(JSON.stringify(reportJson(analyse(desync().traces()))));
    expect(value.findings).toMatchObject([
      { kind: "mismatch", group: "0", seq: 2, ranks: [2], sides: [{ ranks: [0, 1, 3] }, { ranks: [2] }] },
    ]);
    expect(value.findings[0].sides[1].op).toMatchObject({ name: "broadcast", error: "DESYNC", callSite: { line: 8 } });
    expect(value.ranks[3]).toMatchObject({
      rank: 3,
      writer: "bun-c10d",
      ops: 2,
      lastOp: { seq: 2, state: "scheduled" },
    });
  });
});

describe("the timeline", () => {
  test("has a process per rank, and HTA's names of arguments", () => {
    const job = new MadeJob(2);
    job.all({ at: 1000, ms: 4, reduceOp: "SUM" });
    job.rank(0).call({ name: "send", peer: 1, at: 2000, inputs: [[2, 3]], dtype: "Half" });
    job.rank(1).call({ at: 2500, state: "scheduled" });
    const trace = kinetoTrace(new Job(job.traces()), [0, 1]);
    expect(trace.distributedInfo).toMatchObject({
      rank: 0,
      world_size: 2,
      pg_config: [{ pg_name: "0", pg_size: 2, ranks: [0, 1] }],
    });
    const events = trace.traceEvents.filter(({ ph }) => ph === "X");
    expect(events).toMatchObject([
      {
        pid: 0,
        name: "gloo:all_reduce",
        ts: 0,
        dur: 4000,
        args: { "Collective name": "allreduce", "Reduce op": "SUM", Rank: 0 },
      },
      {
        pid: 0,
        ts: 1_000_000,
        dur: 1000,
        args: {
          "Collective name": "send",
          "In msg nelems": 6,
          "Out msg nelems": 0,
          "Group size": 2,
          dtype: "Half",
          "Process Group Name": "0",
          "Process Group Description": "default_pg",
          "Process Group Ranks": "[0, 1]",
          "Src Rank": 0,
          "Dst Rank": 1,
        },
      },
      { pid: 1, ts: 0 },
      // In flight until the dump.
      { pid: 1, ts: 1_500_000, dur: 57_500_000, args: { State: "scheduled" } },
    ]);
    const names = trace.traceEvents.filter(({ name }) => name === "process_name").map(({ args }) => args.name);
    expect(names).toEqual(["rank 0 (a)", "rank 1 (a)"]);
  });

  test("shows ops in flight at once below each other", () => {
    const job = new MadeJob(1);
    for (const at of [0, 5, 20, 22]) job.all({ at, ms: 10 });
    const events = kinetoTrace(new Job(job.traces()), [0]).traceEvents.filter(({ ph }) => ph === "X");
    expect(events.map(({ tid }) => tid)).toEqual([0, 1, 0, 1]);
  });
});

describe("a dump for torchfrtrace", () => {
  test("has the members of the groups that PyTorch's Gloo backend leaves out, and the states that it does not record", () => {
    const job = new MadeJob(2);
    job.rank(1).writer = "pytorch";
    job.rank(0).call({ name: "_all_gather_base", inputs: [[4]], outputs: [[8]] });
    job.rank(1).call({ name: "all_gather", inputs: [[2, 2]], outputs: [[2, 2, 2]], state: "ended" });
    const whole = new Job(job.traces());
    const [ours, theirs] = whole.traces.map(
      (trace) => unpickle(pickle(portableDump(whole, trace))) as Map<string, unknown>,
    );
    expect(theirs?.get("pg_config")).toEqual(ours?.get("pg_config"));
    const [entry, own] = [theirs, ours].map(
      (dump) => (dump?.get("entries") as Map<string, unknown>[] | undefined)?.[0],
    );
    for (const key of ["profiling_name", "input_sizes", "output_sizes", "input_dtypes", "state", "collective_seq_id"]) {
      expect(entry?.get(key)).toEqual(own?.get(key));
    }
    expect(entry?.get("state")).toBe("completed");
    expect(entry?.get("output_sizes")).toEqual([[8]]);
  });

  test("has the op that a rank has not called, and not one that a rank does not record", () => {
    const job = new MadeJob(2);
    job.all({ seq: 1 });
    job.rank(0).call({ name: "barrier", seq: 2 });
    job.all({ seq: 4 });
    job.rank(0).call({ seq: 5, state: "scheduled" });
    const whole = new Job(job.traces());
    const numbers = whole.traces.map((trace) => {
      const dump = unpickle(pickle(portableDump(whole, trace))) as Map<string, unknown>;
      return (dump.get("entries") as Map<string, unknown>[]).map((entry) => entry.get("collective_seq_id"));
    });
    expect(numbers).toEqual([
      [1, 4, 5],
      [1, 4],
    ]);
  });

  test("starts at the first op that all ranks still have", () => {
    const job = new MadeJob(2);
    for (let i = 0; i < 9; i++) job.all();
    job.rank(1).capacity = 4;
    const whole = new Job(job.traces());
    const entries = whole.traces.map((trace) =>
      (unpickle(pickle(portableDump(whole, trace))) as Map<string, unknown>).get("entries"),
    ) as Map<string, unknown>[][];
    expect(entries.map((each) => each.map((entry) => entry.get("collective_seq_id")))).toEqual([
      [6, 7, 8, 9],
      [6, 7, 8, 9],
    ]);
    expect(entries[0]?.map((entry) => entry.get("record_id"))).toEqual([0, 1, 2, 3]);
  });
});
