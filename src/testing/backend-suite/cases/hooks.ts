import type { SuiteCase } from "../suite-case.ts";
import type { SuiteRank } from "../suite-rank.ts";
import { anyCollective } from "./any-collective.ts";

export const hookCases: readonly SuiteCase[] = [
  {
    name: "hooks > each op is reported before it, after it and at its end, by one id",
    async run(it) {
      const events: string[] = [];
      const ids: number[] = [];
      const note = (what: string, id: number, op: string) => {
        events.push(`${what} ${op}`);
        ids.push(id);
      };
      using _hooks = it.group.registerHook({
        pre: ({ opId, op }) => note("pre", opId, op),
        post: ({ opId, op }) => note("post", opId, op),
      });
      using _end = it.group.registerOnCompletionHook((info, { opId, op, error }) => {
        note(error === undefined && info.timeFinished !== undefined ? "end" : "failed", opId, op);
      });
      const op = await collective(it);
      await it.group.waitForPendingWorks();
      const wanted = [`pre ${op}`, `post ${op}`, `end ${op}`];
      it.check(events.join(", ") === wanted.join(", "), `hooks were called as: ${events.join(", ")}`);
      it.check(new Set(ids).size === 1, `the ids of one op differ: ${ids.join(", ")}`);
    },
  },
  {
    name: "hooks > one that throws has no effect on the op",
    async run(it) {
      const fail = () => {
        throw new Error("a hook of the suite, which fails on purpose");
      };
      using _ = it.group.registerHook({ pre: fail, post: fail });
      await anyCollective(it);
      it.check(it.group.state === "OPEN", `the group is ${it.group.state}`);
    },
  },
  {
    name: "timing > the time in the library lies within the time of the op",
    async run(it) {
      it.group.enableCollectivesTiming();
      const before = performance.now();
      const work = anyCollective(it);
      await work;
      const limit = performance.now() - before;
      const { activeDuration, timeStarted, timeFinished } = work.info();
      it.check(activeDuration >= 0 && activeDuration <= limit, `${activeDuration} ms of ${limit} ms`);
      // Two clocks, and dates in whole milliseconds.
      const whole = (timeFinished?.getTime() ?? 0) - timeStarted.getTime();
      it.check(Math.abs(whole - activeDuration) <= 2, `${activeDuration} ms, but ${whole} ms from start to end`);
    },
  },
];

/** Runs a collective; returns its name. */
async function collective(it: SuiteRank): Promise<string> {
  await anyCollective(it);
  const { ops } = it.capabilities;
  if (ops.barrier !== undefined) return "barrier";
  return ops.allReduce?.[0] === undefined ? "allGather" : "allReduce";
}
