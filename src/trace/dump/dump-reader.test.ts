import { describe, expect, test } from "bun:test";
import { pickle } from "../../pickle/index.ts";
import { MadeJob, START_MS } from "../fixtures/made-job.ts";
import { dump, entry, json, source } from "../fixtures/torch-dump.ts";
import { callSiteOf } from "../rank-trace.ts";
import { readDump } from "./dump-reader.ts";

describe("a dump of PyTorch", () => {
  test("is read", () => {
    const trace = readDump(pickle(dump), source);
    expect(trace).toMatchObject({
      rank: 3,
      version: "2.10",
      writer: "pytorch",
      dropped: 0,
      isPartial: false,
      dumpedMs: START_MS,
    });
    expect([...trace.groups.values()]).toEqual([{ uid: "0", description: "default_pg", ranks: [0, 1, 2, 3] }]);
    const [op] = trace.ops;
    expect(op).toMatchObject({
      group: "0",
      name: "all_reduce",
      kind: "all_reduce",
      backend: "nccl",
      seq: 1,
      message: undefined,
      inputSizes: [[4, 3]],
      inputDtypes: ["Float"],
      state: "completed",
      timeoutMs: 600_000,
      frames: [{ name: "step", file: "/job/train.py", line: 7 }],
    });
    expect(op?.createdMs).toBeCloseTo(1_799_999_999_000.0005, 3);
    expect((op?.finishedMs ?? 0) - (op?.createdMs ?? 0)).toBeCloseTo(2.5, 2);
  });

  test("is read as JSON, whose integers are not exact and whose unknown times are 0", () => {
    const inJson = {
      ...dump,
      entries: [{ ...entry, time_discovered_started_ns: 0 }],
    };
    const trace = readDump(json(inJson), { ...source, file: "rank_3.json" });
    expect(trace).toEqual({ ...readDump(pickle(dump), source), file: "rank_3.json" });
  });

  test.each(["2.0", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.7", "2.9", "2.10"])("of format %s", (version) => {
    const { pg_config, pg_status, nccl_comm_state, entries } = dump;
    const old = { version, pg_config, entries };
    expect(
      readDump(pickle(version === "2.10" ? { ...old, pg_status, nccl_comm_state } : old), source).ops,
    ).toHaveLength(1);
  });

  test("of the first formats, with one number for all ops and without names of groups", () => {
    const { collective_seq_id, p2p_seq_id, process_group, thread_id, ...rest } = entry;
    const trace = readDump(pickle({ version: "2.0", entries: [{ ...rest, seq_id: 9 }] }), source);
    expect(trace.ops).toMatchObject([{ seq: 9, group: "0" }]);
    expect(trace.groups.size).toBe(0);
  });

  test("of Gloo, which names no groups and only retires ops", () => {
    const entries = [{ ...entry, profiling_name: "gloo:all_reduce", state: "scheduled", duration_ms: undefined }];
    const trace = readDump(
      pickle({ ...dump, pg_config: { "": { name: "", desc: "", ranks: "[]" } }, entries }),
      source,
    );
    expect(trace.ops).toMatchObject([{ state: "ended", finishedMs: undefined }]);
    expect(trace.groups.size).toBe(0);
  });

  test("of NCCL, where an op that is not watched any more need not be over", () => {
    const entries = [{ ...entry, state: "started" }];
    expect(readDump(pickle({ ...dump, entries }), source).ops).toMatchObject([{ state: "started" }]);
  });

  test("with messages, whose ranks are ranks of the group", () => {
    const pair = { name: "1", desc: "pair", ranks: "[3, 5]" };
    const send = { ...entry, process_group: ["1", "pair"], is_p2p: true, profiling_name: "nccl:send 0->1" };
    const recv = { ...send, record_id: 1, profiling_name: "nccl:recv 0<-1" };
    const trace = readDump(pickle({ ...dump, pg_config: { "1": pair }, entries: [send, recv] }), source);
    expect(trace.ops.map(({ message }) => message)).toEqual([
      { source: 3, destination: 5, tag: 0, number: 0 },
      { source: 5, destination: 3, tag: 0, number: 0 },
    ]);
  });

  test("of a full ring, of active ops only, and without entries", () => {
    expect(readDump(pickle({ ...dump, entries: [{ ...entry, record_id: 7 }] }), source)).toMatchObject({
      dropped: 7,
      isPartial: false,
    });
    const entries = [1, 5].map((record_id) => ({ ...entry, record_id }));
    expect(readDump(pickle({ ...dump, entries }), source)).toMatchObject({ dropped: 1, isPartial: true });
    expect(readDump(pickle({ ...dump, entries: [] }), source)).toMatchObject({ ops: [], isPartial: true });
    const { pg_status, entries: _, ...bare } = dump;
    expect(readDump(pickle(bare), source)).toMatchObject({ ops: [], isPartial: false });
  });
});

test("a dump of this package names its rank, host and time, and the true group of a message", () => {
  const job = new MadeJob(2);
  job.rank(0).call({ name: "send", peer: 1, tag: 4 });
  job.rank(0).capacity = 1;
  job.rank(0).call({ name: "send", peer: 1, tag: 4 });
  const trace = readDump(pickle(job.rank(0).dump()), { file: "x", writtenMs: 0 });
  expect(trace).toMatchObject({ rank: 0, host: "a", writer: "bun-c10d", worldSize: 2, dropped: 1, isPartial: false });
  expect(trace.dumpedMs).toBe(START_MS + 60_000);
  expect(trace.ops).toMatchObject([
    { group: "0", kind: "send", message: { source: 0, destination: 1, tag: 4, number: 2 } },
  ]);
  expect([...trace.groups.keys()]).toEqual(["0"]);
});

test.each(["rank_50000000", "rank_5000000000.json", "rank_99999999999999999999"])(
  "a rank that cannot be one is refused: %s",
  (file) => {
    const { bun_c10d: _, ...dump } = new MadeJob(1).rank(0).dump() as Record<string, never>;
    expect(() => readDump(pickle(dump), { file, writtenMs: 0 })).toThrow(/its rank is \d+/);
  },
);

test("sizes that are there for torchfrtrace are not those of objects", () => {
  const job = new MadeJob(1);
  job.all({ name: "all_gather", api: "allGatherObject", inputs: [[0]], outputs: [[0]], dtype: "Byte" });
  const bare = { inputSizes: [], outputSizes: [], inputDtypes: [], outputDtypes: [] };
  expect(job.rank(0).trace().ops).toMatchObject([bare]);
});

test("the call site is the innermost line outside PyTorch", () => {
  const job = new MadeJob(1);
  job.all({ line: "train.ts:41" });
  const [op] = job.rank(0).trace().ops;
  expect(op && callSiteOf(op)).toEqual({ name: "step", file: "/job/train.ts", line: 41 });
});

test("the time of a file that was copied days later is not that of the dump", () => {
  expect(readDump(pickle(dump), { ...source, writtenMs: START_MS + 5 * 86_400_000 }).dumpedMs).toBeCloseTo(
    START_MS - 997.5,
    0,
  );
});
