import { expect, test } from "bun:test";
import { withLastingStates } from "./lasting-states.ts";
import { processState } from "./process-state.ts";
import type { RankStatus } from "./rank-status.ts";

function status(pid: number, process: RankStatus["process"]): RankStatus {
  return {
    ...{
      rank: 0,
      worldSize: 1,
      world: 7,
      host: "a",
      pid,
      thread: 0,
      program: "",
      process,
      openedAt: 0,
      exitedAt: undefined,
      groups: [],
    },
    ...{ inFlight: [], pending: 0, last: undefined, lastFailed: undefined, begun: 0, failed: 0, bytes: 0, at: 0 },
  };
}

test("a process that was seen to run but sleeps is not running, one in a loop is", async () => {
  await using sleeping = Bun.spawn(["sleep", "60"]);
  await using looping = Bun.spawn(["sh", "-c", "while :; do :; done"]);
  const limit = performance.now() + 10_000;
  const isReady = () => processState(sleeping.pid) === "sleeping" && processState(looping.pid) === "running";
  while (!isReady() && performance.now() < limit) await Bun.sleep(5);
  const statuses = [sleeping, looping].map(({ pid }) => status(pid, "running"));
  expect(withLastingStates(statuses).map(({ process: state }) => state)).toEqual(["sleeping", "running"]);
  for (const each of [sleeping, looping]) each.kill("SIGKILL");
  await Promise.all([sleeping.exited, looping.exited]);
  expect(withLastingStates(statuses).map(({ process: state }) => state)).toEqual(["gone", "gone"]);
});

test("nobody waits unless a process runs that can be looked at", () => {
  const own = status(process.pid, "running");
  const statuses = [own, status(1, "sleeping"), { ...status(1, "running"), reportedAt: 5 }];
  expect(withLastingStates(statuses)).toBe(statuses);
});
