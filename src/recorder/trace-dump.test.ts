import { describe, expect, test } from "bun:test";
import { type OpCall, OpType, opCall, operations, opTypeOf, ReduceOp } from "../collectives/index.ts";
import { captureCallSite, InvalidArgumentError } from "../errors/index.ts";
import { unpickle } from "../pickle/index.ts";
import { tensor, viewTensor } from "../tensor/index.ts";
import { TestWork } from "../work/fixtures/test-work.ts";
import { FlightRecorder } from "./flight-recorder.ts";
import { torchOps } from "./torch-names.ts";

type Json = Record<string, never> & { entries: Record<string, unknown>[] };
const cpu = { type: "cpu", index: 0 } as const;
const f32 = (...lengths: number[]) => lengths.map((length) => viewTensor(new Float32Array(length)));

/** Records ops of a group of ranks 4, 5 and 7, of which this is rank 1; `seq` numbers the collectives. */
class Recording {
  readonly recorder: FlightRecorder;
  readonly group;
  #seq = 0;

  constructor(options: { capacity?: number; backend?: string; numbered?: boolean } = {}) {
    const { backend = "ucc", capacity = 100 } = options;
    this.recorder = new FlightRecorder({ capacity });
    const members = { name: "g", description: "some", rank: 1, globalRanks: [4, 5, 7] };
    this.group = this.recorder.addGroup({ ...members, backends: { cpu: backend } });
  }

  /** Records a call; `end` ends it. */
  add(call: OpCall, given: { seq?: number; api?: string; end?: "ok" | Error; source?: number } = {}): TestWork {
    const { seq = call.op === "send" || call.op === "recv" ? -1 : ++this.#seq, api = call.op, end = "ok" } = given;
    const work = new TestWork({ opType: opTypeOf(call), seq });
    const number = this.recorder.begin(this.group, api, work, performance.now(), call);
    if (given.end === undefined && "end" in given) return work;
    this.recorder.end(number, performance.now(), given.source ?? -1, end === "ok" ? undefined : end.message);
    return work;
  }

  json(options: object = {}): Json {
    return JSON.parse(JSON.stringify(this.recorder.dump(options))) as Json;
  }
}

const brief = ({ entries }: Json) =>
  entries.map(({ profiling_name, input_sizes, output_sizes }) => [profiling_name, input_sizes, output_sizes]);

describe("a dump", () => {
  test("has an entry of PyTorch's format with what only we know beside it", () => {
    const made = new Recording();
    const site = captureCallSite();
    const call = opCall("allReduce", cpu, [], f32(4), 5_000, { reduceOp: ReduceOp.MAX, callSite: site });
    made.add(call);
    const dump = made.json();
    expect(dump).toMatchObject({
      version: "2.10",
      pg_config: { g: { name: "g", desc: "some", ranks: "[4, 5, 7]" } },
      pg_status: {
        "0": { last_enqueued_collective: "1", last_started_collective: "1", last_completed_collective: "1" },
      },
      bun_c10d: {
        pid: process.pid,
        rank: 5,
        world_size: 3,
        backends: { g: "ucc" },
        recorded: 1,
        dropped: 0,
        last_dropped: null,
      },
    } as never);
    const [entry] = dump.entries;
    expect(entry).toMatchObject({
      record_id: 0,
      process_group: ["g", "some"],
      collective_seq_id: 1,
      profiling_name: "gloo:all_reduce",
      input_sizes: [[4]],
      input_dtypes: ["Float"],
      output_sizes: [[4]],
      output_dtypes: ["Float"],
      state: "completed",
      retired: true,
      timeout_ms: 5_000,
      is_p2p: false,
      group: "g",
      api: "allReduce",
      backend: "ucc",
      reduce_op: "MAX",
      root: -1,
      peer: -1,
    } as never);
    const {
      frames,
      time_created_ns: created,
      time_discovered_completed_ns: completed,
    } = entry as never as Record<string, never>;
    expect(frames?.[0]).toMatchObject({ filename: import.meta.path, line: expect.any(Number) } as never);
    expect(Number(created) / 1e6).toBeWithin(Date.now() - 60_000, Date.now() + 1_000);
    expect(Number(completed)).toBeGreaterThanOrEqual(Number(created));
  });

  test("says the same as a pickle, with PyTorch's types", () => {
    const made = new Recording();
    made.add(opCall("allReduce", cpu, [], f32(4), Number.POSITIVE_INFINITY, { reduceOp: ReduceOp.SUM }));
    made.add(opCall("barrier", cpu, [], [], 1), { end: new Error("it broke") });
    const read = unpickle(made.recorder.dumpPickle()) as Map<string, unknown>;
    const plain = (value: unknown): unknown =>
      value instanceof Map
        ? Object.fromEntries([...value].map(([key, each]) => [key, plain(each)]))
        : Array.isArray(value)
          ? value.map(plain)
          : typeof value === "bigint"
            ? Number(value)
            : value;
    const json = made.json();
    const expected = {
      ...json,
      pg_status: { "0": { last_enqueued_collective: 2, last_started_collective: 2, last_completed_collective: 1 } },
      entries: json.entries.map((entry) => ({ ...entry, time_discovered_started_ns: null })),
    };
    const { bun_c10d, ...rest } = plain(read) as { readonly bun_c10d: object };
    expect(rest).toEqual({ ...expected, bun_c10d: undefined } as never);
    const own = json.bun_c10d as never as Record<string, unknown>;
    // It is made a moment earlier.
    const now = performance.timeOrigin + performance.now();
    expect(bun_c10d).toEqual({ ...own, time_dumped_ns: expect.any(Number) } as never);
    expect(Number(own.time_dumped_ns) / 1e6).toBeWithin(now - 10_000, now + 1);
    expect(json.entries[1]).toMatchObject({ state: "completed", failed: true, error: "it broke" });
    expect(json.entries[0]).not.toHaveProperty("failed");
  });

  test("has the names and sizes with which torchfrtrace finds nothing wrong", () => {
    const made = new Recording({ backend: "gloo" });
    const add = (op: Parameters<typeof opCall>[0], inputs: number[], outputs: number[]) =>
      made.add(opCall(op, cpu, f32(...inputs), f32(...outputs), 1));
    add("allReduceCoalesced", [], [2, 3]);
    add("allGather", [2], [2, 2, 2]);
    add("allGatherIntoTensor", [2], [6]);
    add("gather", [2], []);
    add("gather", [2], [2, 2, 2]);
    add("scatter", [2, 2, 2], [2]);
    add("scatter", [], [2]);
    add("reduceScatter", [2, 2, 2], [2]);
    add("reduceScatter", [1, 2, 3], [2]);
    add("reduceScatterTensor", [6], [2]);
    add("allToAll", [1, 2, 3], [2, 2, 2]);
    add("allToAllSingle", [6], [4]);
    add("barrier", [], []);
    expect(brief(made.json())).toEqual([
      ["gloo:allreduce_coalesced", [[2], [3]], [[2], [3]]],
      ["gloo:all_gather", [[2]], [[6]]],
      ["gloo:_all_gather_base", [[2]], [[6]]],
      ["gloo:gather", [[2]], []],
      ["gloo:gather", [[2]], [[6]]],
      ["gloo:scatter", [[6]], [[2]]],
      ["gloo:scatter", [], [[2]]],
      ["gloo:reduce_scatter", [[6]], [[2]]],
      ["gloo:reduce_scatter_v", [[1], [2], [3]], []],
      ["gloo:_reduce_scatter_base", [[6]], [[2]]],
      ["gloo:all_to_all", [[6]], [[6]]],
      ["gloo:all_to_all", [[6]], [[4]]],
      ["gloo:barrier", [], []],
    ]);
    expect(Object.keys(torchOps).sort()).toEqual([...operations].sort());
  });

  test("has ops on objects by the collective that they are, and no batch besides its parts", () => {
    const made = new Recording();
    const begin = (op: string, opType: OpType, seq: number) => {
      const terms = { peer: -1, root: -1, tag: 0, timeoutMs: 9, inputs: [], outputs: [] } as const;
      const work = new TestWork({ opType, seq });
      made.recorder.end(made.recorder.begin(made.group, op, work, 0, terms), 1, -1, undefined);
    };
    begin("allGatherObject", OpType.ALLGATHER, 1);
    begin("broadcastObject", OpType.BROADCAST, 2);
    begin("coalescing", OpType.COALESCED, 3);
    expect(brief(made.json())).toEqual([
      ["gloo:all_gather", [[0]], [[0]]],
      ["gloo:broadcast", [], []],
    ]);
  });

  test("joins the calls of a batch that were submitted as one op", () => {
    const made = new Recording();
    const one = (length: number, seq: number) =>
      made.add(opCall("allReduce", cpu, [], f32(length), 1, { reduceOp: ReduceOp.SUM }), { seq });
    one(1, 1);
    one(2, 2);
    one(3, 2);
    expect(brief(made.json())).toEqual([
      ["gloo:all_reduce", [[1]], [[1]]],
      ["gloo:allreduce_coalesced", [[2], [3]], [[2], [3]]],
    ]);
  });

  test("has a group for each direction and tag of messages, in which they are counted", () => {
    const made = new Recording();
    const send = (peer: number, tag: number) => made.add(opCall("send", cpu, f32(2), [], 1, { peer, tag }));
    const recv = (peer: number, tag: number, source?: number) =>
      made.add(opCall("recv", cpu, [], f32(2), 1, { peer, tag }), source === undefined ? {} : { source });
    send(0, 3);
    send(0, 3);
    send(0, 9);
    recv(2, 3);
    recv(-1, 3, 2);
    recv(-1, 5);
    const dump = made.json();
    const got = dump.entries.map(({ process_group, p2p_seq_id, profiling_name, is_p2p, peer }) => [
      (process_group as string[])[0],
      p2p_seq_id,
      profiling_name,
      is_p2p,
      peer,
    ]);
    expect(got).toEqual([
      ["g/p2p/5-4/3", 1, "gloo:send 1->0", true, 4],
      ["g/p2p/5-4/3", 2, "gloo:send 1->0", true, 4],
      ["g/p2p/5-4/9", 1, "gloo:send 1->0", true, 4],
      ["g/p2p/7-5/3", 1, "gloo:recv 0<-1", true, 7],
      ["g/p2p/7-5/3", 2, "gloo:recv 0<-1", true, 7],
      ["g/p2p/any-5/5", 1, "gloo:recv 0<-0", true, -1],
    ]);
    expect(dump.pg_config).toMatchObject({ "g/p2p/5-4/3": { ranks: "[4, 5]", desc: "some: 5 to 4, tag 3" } } as never);
  });

  test("counts the collectives itself if the backend does not, and leaves out those that wait for a number if it does", () => {
    const barrier = () => opCall("barrier", cpu, [], [], 1);
    const uncounted = new Recording();
    for (let i = 0; i < 2; i++) uncounted.add(barrier(), { seq: -1 });
    expect(uncounted.json().entries.map(({ collective_seq_id }) => collective_seq_id)).toEqual([1, 2]);
    const counted = new Recording();
    counted.add(barrier(), { seq: 7 });
    counted.add(barrier(), { seq: -1, end: undefined as never });
    const dump = counted.json();
    expect(dump.entries.map(({ collective_seq_id }) => collective_seq_id)).toEqual([7]);
    expect(dump.bun_c10d).toMatchObject({ waiting: 1 } as never);
  });

  test("names the op that was overwritten last", () => {
    const made = new Recording({ capacity: 2 });
    for (let i = 0; i < 5; i++) made.add(opCall("barrier", cpu, [], [], 1));
    expect(made.json().bun_c10d).toMatchObject({
      recorded: 5,
      dropped: 3,
      last_dropped: { record_id: 2, api: "barrier", seq: 3, group: "g" },
    } as never);
  });

  test("leaves out what the options say", () => {
    const made = new Recording();
    const call = opCall("barrier", cpu, [], [], 1, { callSite: captureCallSite() });
    made.add(call);
    made.add(call, { end: undefined as never });
    expect(made.json({ includeCollectives: false })).not.toHaveProperty("entries");
    expect(made.json({ includeStackTraces: false }).entries[0]).not.toHaveProperty("frames");
    expect(made.json({ onlyActive: true }).entries.map(({ record_id }) => record_id)).toEqual([1]);
    expect(made.json({ globalRank: 5 }).entries).toHaveLength(2);
    const other = made.json({ globalRank: 4 });
    expect([other.entries, other.pg_config]).toEqual([[], {}] as never);
  });

  test.each([{ onlyactive: true }, { onlyActive: 1 }, 5, null])("refuses the options %p", (options) => {
    expect(() => new FlightRecorder().dump(options as never)).toThrow(InvalidArgumentError);
    expect(() => new FlightRecorder().dumpPickle(options as never)).toThrow(InvalidArgumentError);
  });

  test("without ops and groups is complete, too", () => {
    const dump = JSON.parse(JSON.stringify(new FlightRecorder({ capacity: 0 }).dump())) as Json;
    expect(dump).toMatchObject({ version: "2.10", pg_config: {}, entries: [], bun_c10d: { rank: -1 } } as never);
  });

  test("has bfloat16 and complex tensors by PyTorch's names", () => {
    const made = new Recording();
    const views = [viewTensor(tensor([1, 2], { dtype: "bfloat16" })), viewTensor(new Float32Array(1))];
    made.add(opCall("allReduceCoalesced", cpu, [], views.slice(0, 1), 1));
    expect(made.json().entries[0]).toMatchObject({ input_dtypes: ["BFloat16"] });
  });
});
