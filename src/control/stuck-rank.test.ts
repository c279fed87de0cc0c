import { expect, setDefaultTimeout, test } from "bun:test";
import { describeGloo } from "../backends/gloo/fixtures/availability.ts";
import { describeMpi, launchWith } from "../backends/mpi/fixtures/availability.ts";
import { describeUcc, spawn } from "../backends/ucc/fixtures/availability.ts";
import { type SpawnOptions, spawnRanks } from "../testing/index.ts";
import type { Stuck } from "./fixtures/stuck-rank.ts";

setDefaultTimeout(60_000);

const file = new URL("fixtures/stuck-rank.ts", import.meta.url);

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly tookMs: number;
}

/** What rank 1 is told when it asks rank 0, which is stuck. */
async function ask(stuck: Stuck, names: readonly string[], backend = "gloo", options: SpawnOptions = {}) {
  const args = { stuck, backend, paths: names.map((name) => `/handler/${name}`) };
  const outcomes = await spawnRanks(2, file, { ...options, args, timeout: "40s" });
  expect(outcomes.map(({ error, hung }) => ({ error, hung }))).toEqual([
    { error: undefined, hung: false },
    { error: undefined, hung: false },
  ]);
  return outcomes[1]?.value as Answer[];
}

const op =
  /^ {2}allReduce #\d+ of group 0 \(default_pg\), rank 0 of \[0, 1\], \w+, called \d\.\d s ago\n {4}File "[^"]*stuck-rank\.ts", line \d+ in /m;

/** Asks a rank that blocks in `wait()`: its stack, its ops, its waits; its other handlers when it goes on. */
async function checkWait(backend: string, options?: SpawnOptions): Promise<void> {
  const names = ["dump_traceback", "wait_counter_values", "later"];
  const [traceback, counters, later] = await ask("wait", names, backend, options);
  expect(traceback?.text).toMatch(/^Process \d+, Bun \S+, main thread, blocked in wait\(\) \(most recent/);
  expect(traceback?.text).toMatch(/File "[^"]*stuck-rank\.ts", line \d+ in waitForRankOne$/m);
  expect(traceback?.text).not.toContain("request-service.ts");
  expect(traceback?.text).toMatch(op);
  expect(traceback?.tookMs).toBeLessThan(2_000);
  expect(JSON.parse(counters?.text ?? "")).toMatchObject({
    "bun_c10d.wait_counter.Work__wait.allReduce": { active_count: 1, total_calls: 0 },
    "pytorch.wait_counter.c10d.init_process_group": { active_count: 0, total_calls: 1 },
  });
  expect(later).toMatchObject({ status: 200, text: "after the wait" });
}

describeGloo("a rank that is stuck answers", () => {
  test("in wait()", () => checkWait("gloo"));

  test("while it awaits: its ops", async () => {
    const [traceback] = await ask("await", ["dump_traceback"]);
    expect(traceback?.text).toContain("in the event loop");
    expect(traceback?.text).toMatch(op);
  });

  test("while it does something else: its last op", async () => {
    const [traceback] = await ask("elsewhere", ["dump_traceback"]);
    expect(traceback?.text).toContain("No ops in flight; the last one:\n  allGatherObject");
  });

  test("in an endless loop: that it is in one", async () => {
    const [traceback, counters, ping] = await ask("loop", ["dump_traceback", "wait_counter_values", "ping"]);
    expect(traceback?.text).toContain("has not answered for 5000 ms");
    expect(traceback?.text).toMatch(/^ {2}\d+ [^:]+: R, \d+\.\d\d s$/m);
    expect(counters).toMatchObject({ status: 500 });
    expect(counters?.text).toStartWith("Handler wait_counter_values failed: the thread that has the handlers has not");
    expect(ping?.text).toBe("pong");
  });
});

describeUcc("a rank of ucc answers", () => {
  test("in wait()", () => checkWait("ucc", spawn));
});

describeMpi("a rank of mpi answers", "openmpi", () => {
  test("in wait()", () => checkWait("mpi", launchWith("openmpi")));
});
