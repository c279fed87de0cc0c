import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { DistError } from "../../errors/index.ts";
import { type PickleValue, pickle } from "../../pickle/index.ts";
import { MadeJob, START_MS } from "../fixtures/made-job.ts";
import { callSiteOf } from "../rank-trace.ts";
import { readDump } from "./dump-reader.ts";

const source = { file: "/dumps/trace_rank_3", writtenMs: START_MS };

type Dict = { readonly [key: string]: PickleValue };

/** An entry as PyTorch 2.10 writes it. */
const entry: Dict = {
  record_id: 0,
  pg_id: 0,
  process_group: ["0", "default_pg"],
  collective_seq_id: 1,
  p2p_seq_id: 0,
  op_id: 1,
  profiling_name: "nccl:all_reduce",
  time_created_ns: 1_799_999_999_000_000_512n,
  duration_ms: 2.5,
  input_sizes: [[4, 3]],
  input_dtypes: ["Float"],
  output_sizes: [[4, 3]],
  output_dtypes: ["Float"],
  state: "completed",
  time_discovered_started_ns: null,
  time_discovered_completed_ns: null,
  retired: true,
  timeout_ms: 600_000,
  is_p2p: false,
  thread_id: "1",
  frames: [{ name: "step", filename: "/job/train.py", line: 7 }],
};

const dump: Dict = {
  version: "2.10",
  pg_config: { "0": { name: "0", desc: "default_pg", ranks: "[0, 1, 2, 3]" } },
  pg_status: { "0": { last_enqueued_collective: 1, last_started_collective: -1, last_completed_collective: 1 } },
  nccl_comm_state: {},
  entries: [entry],
};

function refusal(bytes: Uint8Array, file = source.file): string {
  try {
    readDump(bytes, { ...source, file });
  } catch (error) {
    expect(error).toBeInstanceOf(DistError);
    expect(["INVALID_DUMP", "INVALID_PICKLE"]).toContain((error as DistError).code);
    return (error as Error).message;
  }
  throw new Error("it was read");
}

/** Integers lose what a double cannot hold, as they do for any reader of JSON. */
const json = (value: unknown): Uint8Array => {
  const text = JSON.stringify(value, (_, each) => (typeof each === "bigint" ? Number(each) : each));
  return new TextEncoder().encode(text);
};

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

describe("what is no dump is refused", () => {
  const withEntry = (change: Dict): Uint8Array => pickle({ ...dump, entries: [{ ...entry, ...change }] });
  test.each([
    ["a list", pickle([]), "must be a dict"],
    ["half of it", pickle(dump).subarray(0, 200), "cut off"],
    ["half of its JSON", json(dump).subarray(0, 200), "neither JSON nor a pickle"],
    ["no version", pickle({}), "version must be a string"],
    ["another version", pickle({ ...dump, version: "3.0" }), "its format is 3.0"],
    ["entries that are none", pickle({ ...dump, entries: 7 }), "entries must be a list, got number 7"],
    ["an entry that is none", pickle({ ...dump, entries: ["x"] }), 'entries[0] must be a dict, got "x"'],
    ["a name that is none", withEntry({ profiling_name: 5 }), "entries[0].profiling_name must be a string"],
    [
      "a number that is none",
      withEntry({ collective_seq_id: "1" }),
      'entries[0].collective_seq_id must be an integer, got "1"',
    ],
    ["a fraction", withEntry({ record_id: 0.5 }), "entries[0].record_id must be an integer, got number 0.5"],
    ["a state", withEntry({ state: "lost" }), "must be scheduled, started or completed"],
    ["sizes", withEntry({ input_sizes: [4] }), "entries[0].input_sizes[0] must be a list"],
    ["dtypes", withEntry({ input_dtypes: [4] }), "entries[0].input_dtypes must be a list of strings"],
    ["frames", withEntry({ frames: [{}] }), "entries[0].frames[0].filename must be a string"],
    ["a time", withEntry({ time_created_ns: -5 }), "entries[0].time_created_ns is no time"],
    ["a group", withEntry({ process_group: [1, 2] }), "entries[0].process_group must be the name of a group"],
    ["ranks", pickle({ ...dump, pg_config: { "0": { ranks: "__import__('os')" } } }), "must be a list of ranks"],
    ["a rank", pickle({ ...dump, bun_c10d: { rank: -2 } }), "its rank is -2"],
  ])("%s", (_, bytes, reason) => {
    expect(refusal(bytes)).toContain(reason);
  });

  test("a file without a rank in its name", () => {
    expect(refusal(pickle(dump), "/dumps/trace.json")).toContain("does not end with a rank");
  });

  test("whatever is changed in one, it is read or refused", () => {
    const sound = json(dump);
    const change = fc.tuple(fc.nat(sound.length - 1), fc.integer({ min: 0x20, max: 0x7e }));
    const property = fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
      const bytes = sound.slice();
      for (const [at, value] of changes) bytes[at] = value;
      try {
        readDump(bytes, source);
      } catch (error) {
        expect(error).toBeInstanceOf(DistError);
      }
    });
    fc.assert(property, { numRuns: 3000 });
    const anything = fc.property(
      fc.object({ key: fc.constantFrom(...Object.keys(dump), ...Object.keys(entry), "bun_c10d") }),
      (value) => {
        try {
          readDump(json({ ...dump, ...value }), source);
        } catch (error) {
          expect(error).toBeInstanceOf(DistError);
        }
      },
    );
    fc.assert(anything, { numRuns: 3000 });
  });
});
