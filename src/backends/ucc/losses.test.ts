import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks, startRanks } from "../../testing/index.ts";
import { allWell } from "../fixtures/all-well.ts";
import { describeUcc, spawn } from "./fixtures/availability.ts";
import type { Loss, LossArgs } from "./fixtures/loss.ts";
import type { Orphan } from "./fixtures/orphan.ts";
import type { UnderWay, UnderWayArgs } from "./fixtures/under-way.ts";

setDefaultTimeout(60_000);

const fixture = (name: string): URL => new URL(`./fixtures/${name}.ts`, import.meta.url);

describeUcc("ucc, ranks that are lost", () => {
  const losses: readonly LossArgs[] = [
    { last: "is killed", op: "allReduce", mode: "wait" },
    { last: "is killed", op: "allReduce of 32 MB", mode: "await" },
    { last: "is killed", op: "recv", mode: "wait" },
    { last: "is killed", op: "send of 32 MB", mode: "wait" },
    { last: "is killed", op: "small broadcasts", mode: "wait" },
    { last: "aborts", op: "small broadcasts", mode: "await" },
    { last: "leaves", op: "small sends", mode: "wait" },
    { last: "is killed", op: "small sends", mode: "await" },
    { last: "stops", op: "allReduce", mode: "await" },
    { last: "stops", op: "send of 32 MB", mode: "wait" },
    { last: "leaves", op: "allReduce of 32 MB", mode: "await" },
    { last: "leaves", op: "recv", mode: "wait" },
    { last: "aborts", op: "allReduce", mode: "wait" },
    { last: "aborts", op: "recv", mode: "await" },
  ];

  test.each(losses.map((args, i): [string, number, LossArgs] => [Object.values(args).join(", "), 2 + (i % 2), args]))(
    "a rank %s, %d ranks",
    async (_, worldSize, args) => {
      const last = worldSize - 1;
      const stops = args.last === "stops";
      const job = await startRanks(worldSize, fixture("loss"), { ...spawn, args, timeout: "20s" });
      if (stops) {
        // It cannot end itself.
        await Promise.all(job.ranks.slice(0, last).map((rank) => rank.reported((report) => report === "ended")));
        job.ranks[last]?.kill("SIGKILL");
      }
      const outcomes = await job.done;
      expect(outcomes.map(({ hung }) => hung)).toEqual(outcomes.map(() => false));
      for (const loss of allWell<Loss>(outcomes.slice(0, last))) {
        expect(loss.error?.name).toBe(stops ? "DistTimeoutError" : "DistNetworkError");
        expect(loss.error?.code).toBe(stops ? "OP_TIMEOUT" : "PEER_LOST");
        expect(loss.state).toBe("FAILED");
        expect(loss.next?.code).toBe("GROUP_FAILED");
        const ms = loss.at - Number(outcomes[last]?.reports[0]);
        if (stops) {
          expect(ms).toBeGreaterThan(1_000);
        } else {
          expect(loss.error?.details).toMatchObject({ peers: [last] });
          expect(ms).toBeLessThan(2_500);
        }
        expect(loss.endMs).toBeLessThan(2_000);
      }
    },
  );

  test("the receiver of a large message over TCP is killed, a failure that UCC reports only in its log", async () => {
    const args: LossArgs = { last: "is killed", op: "send of 32 MB", mode: "wait" };
    const env = { UCX_TLS: "tcp,self" };
    const outcomes = await spawnRanks(3, fixture("loss"), { ...spawn, args, env, timeout: "20s" });
    for (const { error } of allWell<Loss>(outcomes.slice(0, 2))) {
      expect(error).toMatchObject({ code: "PEER_LOST", details: { peers: [2] } });
    }
  });

  const cases: readonly (readonly ["SIGKILL" | "SIGSTOP", UnderWayArgs["op"], UnderWayArgs["mode"]])[] = [
    ["SIGKILL", "allReduce", "wait"],
    ["SIGKILL", "allReduce of 16 MB", "await"],
    ["SIGKILL", "allToAll of 16 MB", "wait"],
    ["SIGKILL", "messages of 16 MB", "await"],
    ["SIGSTOP", "allReduce", "wait"],
    ["SIGSTOP", "allReduce of 16 MB", "await"],
    ["SIGSTOP", "messages of 16 MB", "await"],
  ];
  test.each(cases)("%s in the middle of %s, %s", async (signal, op, mode) => {
    const worldSize = mode === "wait" ? 2 : 3;
    const last = worldSize - 1;
    const timeout = signal === "SIGKILL" ? 30_000 : 4_000;
    const args: UnderWayArgs = { op, mode, timeout };
    const job = await startRanks(worldSize, fixture("under-way"), { ...spawn, args, timeout: "50s" });
    await Promise.all(job.ranks.map((rank) => rank.reported((report) => report === "under way")));
    await Bun.sleep(50);
    const since = Date.now();
    job.ranks[last]?.kill(signal);
    if (signal === "SIGSTOP") {
      await Promise.all(job.ranks.slice(0, last).map((rank) => rank.reported((report) => report === "ended")));
      job.ranks[last]?.kill("SIGKILL");
    }
    const outcomes = await job.done;
    expect(outcomes.map(({ hung }) => hung)).toEqual(outcomes.map(() => false));
    const ends = allWell<UnderWay>(outcomes.slice(0, last));
    for (const { error, at, ended, wrong, state, endMs } of ends) {
      expect(ended).toBeGreaterThanOrEqual(5);
      expect(wrong).toBe(0);
      expect(state).toBe("FAILED");
      if (signal === "SIGKILL") {
        expect(error).toMatchObject({ name: "DistNetworkError", code: "PEER_LOST", details: { peers: [last] } });
        expect(at - since).toBeLessThan(10_000);
      } else {
        expect(error).toMatchObject({ name: "DistTimeoutError", code: "OP_TIMEOUT" });
      }
      expect(endMs).toBeLessThan(10_000);
    }
    // The others may be notified by the one whose op began first.
    if (signal === "SIGSTOP") expect(Math.max(...ends.map(({ opMs }) => opMs))).toBeGreaterThanOrEqual(timeout);
  });

  test("a large message whose sender died is not reported as received", async () => {
    const outcomes = await spawnRanks(2, fixture("orphan"), { ...spawn, timeout: "40s" });
    const [receiver] = allWell<Orphan>(outcomes.slice(0, 1));
    expect(receiver?.error).toMatchObject({ name: "DistNetworkError", code: "PEER_LOST", details: { peers: [1] } });
    expect(receiver?.state).toBe("FAILED");
  });
});
