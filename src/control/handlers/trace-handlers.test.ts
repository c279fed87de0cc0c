import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import * as dist from "../../index.ts";
import { localRanks } from "../../testing/index.ts";
import type { TraceEvent } from "../../trace/index.ts";

describe("trace dumps", () => {
  const container = dist.createContainer();
  let server: dist.WorkerServer;
  beforeAll(async () => {
    server = new dist.WorkerServer("127.0.0.1", 0, { container });
    await using _group = await dist.initProcessGroup({
      backend: "fake",
      container,
      store: new dist.HashStore(),
      rank: 0,
      worldSize: 1,
    });
    await dist.allReduce(new Float32Array(3));
  });
  afterAll(() => server.shutdown());

  const post = (path: string) => fetch(`${server.url}/handler/${path}`, { method: "POST" });

  test.each(["fr_trace_json", "dump_nccl_trace_json"])("%s is the recorder's dump", async (name) => {
    const response = await post(name);
    expect([response.status, response.headers.get("content-type")]).toEqual([200, "application/json"]);
    const dump = (await response.json()) as { version: string; entries: { collective_seq_id: number }[] };
    expect(dump.version).toBe("2.10");
    expect(dump.entries).toHaveLength(1);
    expect(await (await post(`${name}?includecollectives=false`)).json()).not.toHaveProperty("entries.0");
    expect(await (await post(`${name}?onlyactive=true`)).json()).not.toHaveProperty("entries.0");
  });

  test("dump_nccl_trace_pickle is a pickle", async () => {
    const response = await post("dump_nccl_trace_pickle?includestacktraces=false&onlyactive=false");
    expect([response.status, response.headers.get("content-type")]).toEqual([200, "application/octet-stream"]);
    expect((await response.bytes()).subarray(0, 2)).toEqual(new Uint8Array([0x80, 2]));
  });

  test.each<[string, string]>([
    ["includecollectives=yes", "Invalid value for includecollectives valid values are true or false"],
    ["onlyactive=", "Invalid value for onlyactive valid values are true or false"],
    ["includestacktraces=True", "Invalid value for includestacktraces valid values are true or false"],
    ["other=true", "Invalid parameters - unexpected param passed in"],
    ["onlyactive=true&__proto__=true", "Invalid parameters - unexpected param passed in"],
  ])("?%s is refused with c10d's text", async (query, text) => {
    for (const name of ["dump_nccl_trace_pickle", "dump_nccl_trace_json", "fr_trace_json"]) {
      const response = await post(`${name}?${query}`);
      expect([response.status, await response.text()]).toEqual([400, text]);
    }
  });
});

test("torch_profile has a row for each group, and more for ops in flight at once", async () => {
  const container = dist.createContainer();
  using server = new dist.WorkerServer("127.0.0.1", 0, { container });
  const place = { container, store: new dist.HashStore(), rank: 0, worldSize: 2 };
  await using group = await dist.initProcessGroup({
    ...place,
    backend: "fake",
    options: { mode: "solo", delayMs: 20 },
  });
  const asked = fetch(`${server.url}/handler/torch_profile?duration=1`, { method: "POST" });
  await Bun.sleep(200);
  for (let i = 0; i < 2; i++) await group.allReduce(new Float32Array(1));
  await Promise.all([0, 1].map(() => group.send(new Float32Array(1), { dst: 1 })));
  const { traceEvents } = (await (await asked).json()) as { traceEvents: TraceEvent[] };
  const lanes = traceEvents.flatMap(({ ph, name, tid }) => (ph === "X" ? [`${name} ${tid}`] : []));
  expect(lanes).toEqual(["allReduce 0", "allReduce 0", "send 0", "send 1"]);
});

test("torch_profile has the ops of the time asked for, also those that go on", async () => {
  const container = dist.createContainer();
  using server = new dist.WorkerServer("127.0.0.1", 0, { container });
  const profile = async (duration: string) => {
    const response = await fetch(`${server.url}/handler/torch_profile?duration=${duration}`, { method: "POST" });
    expect(response.headers.get("content-type")).toBe("application/json");
    const { traceEvents } = (await response.json()) as { traceEvents: TraceEvent[] };
    expect(traceEvents[0]?.args).toEqual({ name: `Bun ${process.pid}: ops of bun-c10d` });
    for (const { ph, args } of traceEvents) {
      if (ph === "X") expect(args).toMatchObject({ "Process Group Ranks": "[0, 1]", State: "started" });
    }
    return traceEvents.filter(({ ph }) => ph === "X").map(({ name, dur = -1 }) => ({ name, isPositive: dur >= 0 }));
  };
  await localRanks(
    2,
    async ({ rank, store }) => {
      await dist.allReduce(new Float32Array(3));
      await Bun.sleep(50);
      if (rank === 1) await store.wait(["profiled"]);
      const broadcast = dist.broadcast(new Float32Array(3), { src: 1 });
      if (rank === 0) {
        expect(await profile("0.1")).toEqual([{ name: "broadcast", isPositive: true }]);
        await store.set("profiled", "");
      }
      await broadcast;
    },
    { container },
  );
  await Bun.sleep(5);
  expect(await profile("0")).toEqual([]);
});

test.each(["NaN", "-1", "1s", ""])("torch_profile refuses the duration %j", async (duration) => {
  using server = new dist.WorkerServer("127.0.0.1", 0);
  const response = await fetch(`${server.url}/handler/torch_profile?duration=${duration}`, { method: "POST" });
  expect([response.status, await response.text()]).toEqual([400, "duration must be a number of seconds of at least 0"]);
});
