import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { RankRecord } from "../../status/index.ts";
import { Dashboard, type DashboardAttempt } from "./dashboard.ts";
import { op, over, record } from "./fixtures/records.ts";
import type { Snapshot } from "./page/snapshot.ts";

let dashboard: Dashboard;
let looks: number;
let records: () => readonly RankRecord[];
let faults: string[];

beforeEach(async () => {
  looks = 0;
  faults = [];
  const found = [record(0, 2, [op("allReduce", 2)]), record(1, 1, [over("barrier", 1)])];
  records = () => found;
  dashboard = await Dashboard.open({ port: 0, onFault: (text) => faults.push(text) });
  dashboard.start({ id: "j", command: ["train"], worldSize: 2, node: 0, nnodes: 1, startedAt: Date.now() });
});
afterEach(() => dashboard.close());

const attempt: DashboardAttempt = {
  ...{ attempt: 0, started: () => [], ask: undefined },
  records: () => {
    looks++;
    return records();
  },
};

async function view() {
  const socket = new WebSocket(`${dashboard.url.replace("http", "ws")}events`);
  const snapshots: Snapshot[] = [];
  socket.onmessage = ({ data }) => snapshots.push(JSON.parse(String(data)) as Snapshot);
  const closed = new Promise<void>((resolve) => {
    socket.onclose = () => resolve();
  });
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = reject;
  });
  const until = async (holds: () => boolean) => {
    for (let i = 0; i < 600 && !holds(); i++) await Bun.sleep(5);
    expect(holds()).toBe(true);
  };
  return { socket, snapshots, closed, until };
}

describe("the ranks are looked at", () => {
  test("only while somebody looks at the page", async () => {
    using _watch = dashboard.watch(attempt);
    await Bun.sleep(250);
    expect(looks).toBe(0);
    const { socket, snapshots, closed, until } = await view();
    await until(() => snapshots.length >= 3);
    expect(snapshots[0]).toMatchObject({ ranks: [{ rank: 0 }, { rank: 1, tone: "late" }], ops: [{}, {}] });
    expect(snapshots[1]?.ops).toEqual([]);
    socket.close();
    await closed;
    await Bun.sleep(250);
    const before = looks;
    await Bun.sleep(250);
    expect(looks).toBe(before);
  });

  test("so that it takes at most a tenth of the time", async () => {
    using _watch = dashboard.watch(attempt);
    const quick = records;
    records = () => {
      Bun.sleepSync(40);
      return quick();
    };
    const { until } = await view();
    await until(() => looks > 0);
    const before = looks;
    await Bun.sleep(900);
    expect(looks - before).toBeLessThanOrEqual(3);
  });

  test("also when that fails, which is reported once", async () => {
    using _watch = dashboard.watch(attempt);
    const good = records;
    records = () => {
      throw new Error("no space left");
    };
    const { snapshots, until } = await view();
    await until(() => looks >= 3);
    expect(faults).toEqual(["no space left"]);
    records = good;
    await until(() => snapshots.at(-1)?.ranks.length === 2);
  });
});

describe("the end", () => {
  test("is shown with what the ranks were doing when it began", async () => {
    const watch = dashboard.watch(attempt);
    const { snapshots, closed, until } = await view();
    await until(() => snapshots.length > 0);
    dashboard.freeze();
    records = () => [];
    watch[Symbol.dispose]();
    dashboard.report("the job timed out\n");
    await dashboard.end(124);
    await closed;
    expect(snapshots.at(-1)).toMatchObject({
      ...{ report: "the job timed out", end: { exitCode: 124 } },
      problems: [{ title: 'Rank 1 has not called allReduce #2 on group "0" (fake)' }],
      ranks: [{ rank: 0 }, { rank: 1 }],
    });
    await expect(fetch(dashboard.url)).rejects.toThrow();
    expect(faults).toEqual([]);
  });

  test("comes at once when nobody looks at the page", async () => {
    const began = performance.now();
    await dashboard.end(0);
    expect(performance.now() - began).toBeLessThan(200);
  });
});
