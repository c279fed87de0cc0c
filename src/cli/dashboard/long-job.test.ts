import { heapStats } from "bun:jsc";
import { expect, setDefaultTimeout, test } from "bun:test";
import type { RankRecord } from "../../status/index.ts";
import { DashboardServer } from "./dashboard-server.ts";
import { Browser, describeWithBrowser } from "./fixtures/browser.ts";
import { at, op, record } from "./fixtures/records.ts";
import { JobMonitor } from "./job-monitor.ts";
import { pageFiles } from "./page-files.ts";
import { newToken } from "./token.ts";

setDefaultTimeout(60_000);

const RANKS = 8;
/** So many ops does a rank call between two looks that its record has none of those before. */
const OPS_PER_LOOK = 1_250;
const names = ["allReduce", "broadcast", "allGather", "barrier"];

/** The records of a job of 100,000 ops a second, by the number of the look. */
function recordsAt(look: number): RankRecord[] {
  const now = at + look * 100;
  return Array.from({ length: RANKS }, (_, rank) => {
    const ops = Array.from({ length: 64 }, (_, i) => {
      const number = (look + 1) * OPS_PER_LOOK - 63 + i;
      const times = { began: now - 64 + i, ended: i === 63 ? undefined : now - 63.5 + i };
      return op(names[number % 4] ?? "", number, { number, group: String(number % 3), ...times });
    });
    return record(rank, ops.length, ops, { at: now, begun: (look + 1) * OPS_PER_LOOK, bytes: look * 1_000_000 });
  });
}

describeWithBrowser("a long job in Chromium", () => {
  test("takes no more memory after 9 million ops than after a few, in the launcher and in the page", async () => {
    let look = 0;
    const monitor = new JobMonitor({
      ...{ id: "long", command: ["x.ts"], worldSize: RANKS, node: 0, nnodes: 1, startedAt: at },
    });
    monitor.watch({ attempt: 0, records: () => recordsAt(look), started: () => [] });
    const server = new DashboardServer({
      ...{ port: 0, token: newToken(), files: await pageFiles(), onViewers: () => {} },
      messageFor: (viewer) => JSON.stringify(monitor.snapshotFor(viewer)),
    });
    await using browser = await Browser.open();
    await browser.look({ width: 1_280, height: 800, scheme: "light" });
    await browser.go(server.url);
    await browser.press("2");
    const lookUntil = async (last: number) => {
      for (; look < last; look++) {
        monitor.look();
        server.send();
        await Bun.sleep(2);
      }
      // The page has seen all of it when it has answered.
      await browser.value("0");
      Bun.gc(true);
      return { own: heapStats().heapSize, ...(await browser.memory()) };
    };
    // By then, what is kept of each lane is full.
    const before = await lookUntil(300);
    const after = await lookUntil(900);
    await server.close(0);
    expect(after.own - before.own).toBeLessThan(3 * 2 ** 20);
    expect(after.heap - before.heap).toBeLessThan(6 * 2 ** 20);
    expect(after.heap).toBeLessThan(40 * 2 ** 20);
    expect(after.nodes).toBeLessThan(1_500);
    expect(browser.complaints).toEqual([]);
  });
});
