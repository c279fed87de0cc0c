import { destroyProcessGroup } from "../../../distributed/index.ts";
import { DistTimeoutError } from "../../../errors/index.ts";
import type { GroupState } from "../../../work/index.ts";
import { endsInTime } from "../ends-in-time.ts";
import { reduction, summands, tile } from "../patterns.ts";
import type { SuiteCase } from "../suite-case.ts";
import type { SuiteRank } from "../suite-rank.ts";
import { anyCollective } from "./any-collective.ts";

/** The group takes no more ops, and says so at once. */
async function checkFailed(it: SuiteRank): Promise<void> {
  it.check(it.group.state === "FAILED", `the group is ${it.group.state} after a failure`);
  let error = await it.rejection("an op on a failed group", anyCollective(it), 1_000);
  // If middleware held the op that was in flight, this one may be the first to reach the backend, which then says why.
  if (error.code !== "GROUP_FAILED") error = await it.rejection("a failed group's next op", anyCollective(it), 1_000);
  it.check(error.code === "GROUP_FAILED", `an op on a failed group fails with ${error.code}`);
  it.check(error.message.length > 20, `the error of an op on a failed group gives no reason: "${error.message}"`);
}

/** How long the end of a backend may take here; the contract requires one second. */
const END_LIMIT_MS = 2_500;

/** Cases in which ranks are late, leave, or give up. The last rank never takes part in the op. */
export const failureCases: readonly SuiteCase[] = [
  {
    name: "failures > an op that a rank does not come to times out",
    idle: true,
    ranks: 2,
    async run(it) {
      if (it.isLast) return;
      const work = anyCollective(it, { timeout: 150 });
      const error = await it.rejection("an op without the last rank", work);
      const expected = it.worldSize === 2 ? ["DistTimeoutError"] : ["DistTimeoutError", "DistNetworkError"];
      it.check(expected.includes(error.name), `it failed with ${error.name}: ${error.message}`);
      it.check(it.worldSize > 2 || error.code === "OP_TIMEOUT", `the code is ${error.code}`);
      it.check(work.isCompleted() && !work.isSuccess(), "the op is not completed without success");
      it.check(work.exception() === error, "exception() is not the error that it rejected with");
      await checkFailed(it);
    },
  },
  {
    name: "failures > the time-out of wait() leaves the op pending",
    ranks: 2,
    blocking: true,
    async run(it) {
      if (it.isLast) await it.store.get("waited");
      const work = anyCollective(it);
      if (it.rank === 0) {
        let error: unknown;
        try {
          work.wait({ timeout: 60 });
        } catch (thrown) {
          error = thrown;
        }
        it.check(error instanceof DistTimeoutError && error.code === "WAIT_TIMEOUT", `wait() threw ${String(error)}`);
        it.check(!work.isCompleted(), "the op ended with the time-out of wait()");
        await it.store.set("waited", "");
      }
      await work;
      it.check(it.group.state === "OPEN", `the group is ${it.group.state}`);
    },
  },
  {
    name: "failures > abort ends what is in flight",
    idle: true,
    ranks: 2,
    claims: ["abort"],
    async run(it) {
      if (it.isLast) return;
      const work = anyCollective(it);
      const started = performance.now();
      if (it.rank === 0) {
        // Middleware may hold the op for a turn of the event loop, which on a busy machine may outlast this sleep.
        await new Promise((resolve) => setImmediate(resolve));
        await Bun.sleep(20);
        it.group.abort("the suite aborts");
      }
      const error = await it.rejection("an op of an aborted group", work, 3_000);
      it.check(it.rank !== 0 || error.code === "ABORTED", `an op of an aborted group fails with ${error.code}`);
      const took = performance.now() - started;
      it.check(it.rank !== 0 || took < 2_000, `an abort took ${took} ms`);
      await checkFailed(it);
    },
  },
  {
    name: "failures > closing a group ends what is in flight",
    idle: true,
    ranks: 2,
    claims: ["abort"],
    async run(it) {
      if (it.rank !== 0) return;
      const work = anyCollective(it);
      const started = performance.now();
      await it.group.close();
      const took = performance.now() - started;
      it.check(took < 2_000, `close() with an op in flight took ${took} ms`);
      const ended = await it.rejection("an op of a closed group", work, 1_000);
      it.check(ended.code === "ABORTED", `an op that is in flight when its group is closed fails with ${ended.code}`);
      it.check(it.group.state === "CLOSED", `the group is ${it.group.state} after close()`);
      const error = await it.rejection("a new op on a closed group", anyCollective(it), 1_000);
      it.check(error.code === "GROUP_CLOSED", `a new op on a closed group fails with ${error.code}`);
    },
  },
  {
    name: "failures > abort, drained and close can be called in any state, and again",
    idle: true,
    ranks: 2,
    claims: ["abort"],
    async run(it) {
      if (it.rank !== 0) return;
      // The group itself calls each of them once.
      const backend = it.group.backend();
      const work = anyCollective(it);
      backend.abort("the first reason");
      backend.abort("the second reason");
      const error = await it.rejection("an op of an aborted backend", work, 3_000);
      it.check(!error.message.includes("the second reason"), `the first abort does not count: ${error.message}`);
      it.check(backend.state === "FAILED", `the backend is ${backend.state} after abort()`);
      const ends = async (state: GroupState): Promise<void> => {
        await endsInTime(it, `drained() of a backend that is ${state}`, END_LIMIT_MS, () => backend.drained());
        it.check(backend.inFlight === 0, `${backend.inFlight} ops are in flight in a backend that is ${state}`);
      };
      await ends("FAILED");
      for (const time of ["close()", "close() once more"]) {
        await endsInTime(it, time, END_LIMIT_MS, () => backend.close());
        it.check(backend.state === "CLOSED", `the backend is ${backend.state} after ${time}`);
      }
      backend.abort("the third reason");
      await ends("CLOSED");
      it.check(backend.state === "CLOSED", `the backend is ${backend.state} after an abort() that followed close()`);
      const next = await it.rejection("an op on a closed backend", anyCollective(it), 1_000);
      it.check(
        ["GROUP_CLOSED", "GROUP_FAILED"].includes(next.code),
        `an op on a closed backend fails with ${next.code}`,
      );
    },
  },
  {
    name: "failures > destroying a group waits for what is in flight",
    ops: ["allReduce"],
    makesGroups: true,
    async run(it) {
      const [{ dtype } = { dtype: "float32" as const }] = it.reductionsOf("allReduce");
      const input = tile(summands(dtype, "SUM", it.rank, it.worldSize), dtype, 99);
      const group = await it.newGroup();
      if (group === null) throw new Error("newGroup() of all ranks returned null");
      if (it.isLast) await Bun.sleep(30);
      const started = Array.from({ length: 5 }, () => {
        const placed = it.place(dtype, input);
        return { placed, work: group.allReduce(placed.tensor) };
      });
      await destroyProcessGroup(group);
      it.check(group.state === "CLOSED", `the group is ${group.state} after it was destroyed`);
      for (const { placed, work } of started) {
        it.check(work.isSuccess(), `an op of a destroyed group failed: ${work.exception()?.message}`);
        it.checkBytes(
          "allReduce before the end of its group",
          placed,
          tile(reduction(dtype, "SUM", it.worldSize), dtype, 99),
        );
      }
    },
  },
  {
    name: "failures > the others learn that a rank has closed the group",
    idle: true,
    ranks: 2,
    async run(it) {
      if (it.isLast) {
        await it.store.get("in flight");
        await it.group.close();
        return;
      }
      const work = anyCollective(it, { timeout: 4_000 });
      if (it.rank === 0) await it.store.set("in flight", "");
      await it.rejection("an op without the last rank, which closed the group", work, 6_000);
      await checkFailed(it);
    },
  },
];
