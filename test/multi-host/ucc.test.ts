import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type SpawnOptions, spawnRanks, startRanks } from "bun-c10d/testing";
import { allWell } from "../../src/backends/fixtures/all-well.ts";
import { describeUcc, spawn } from "../../src/backends/ucc/fixtures/availability.ts";
import type { Loss, LossArgs } from "../../src/backends/ucc/fixtures/loss.ts";
import type { MismatchEnd } from "../../src/backends/ucc/fixtures/mismatch.ts";
import type { Rounds } from "../../src/backends/ucc/fixtures/rounds.ts";
import type { UnderWay, UnderWayArgs } from "../../src/backends/ucc/fixtures/under-way.ts";
import { SplitJob } from "./split-job.ts";
import { TwoHosts } from "./two-hosts.ts";

setDefaultTimeout(90_000);

const impossible = await TwoHosts.impossible();
const isLeftOut = impossible !== undefined && process.env.C10D_REQUIRE_NETNS !== "1";
if (isLeftOut) console.log(`skip ucc between hosts: no network namespaces: ${impossible}`);

const fixture = (name: string): URL => new URL(`../../src/backends/ucc/fixtures/${name}.ts`, import.meta.url);

describeUcc("ucc between two hosts", () => {
  let hosts: TwoHosts;
  beforeAll(async () => {
    if (!isLeftOut) hosts = await TwoHosts.make();
  });
  afterAll(async () => {
    if (!isLeftOut) await hosts[Symbol.asyncDispose]();
  });

  /** The last rank is on the other host. */
  async function jobOf(worldSize: number): Promise<{ job: SplitJob; options: SpawnOptions }> {
    const job = await SplitJob.make(hosts, worldSize - 1, spawn.runtime && { runtime: spawn.runtime });
    // Otherwise UCX would find the memory of the other host's processes.
    const env = { ...job.options.env, UCX_TLS: "tcp,self", UCX_NET_DEVICES: "veth" };
    return { job, options: { ...job.options, env } };
  }

  const losses: readonly LossArgs[] = [
    { last: "is killed", op: "allReduce", mode: "wait" },
    { last: "is killed", op: "allReduce of 32 MB", mode: "await" },
    { last: "is killed", op: "recv", mode: "await" },
    { last: "is killed", op: "send of 32 MB", mode: "wait" },
    { last: "stops", op: "allReduce", mode: "wait" },
    { last: "stops", op: "send of 32 MB", mode: "await" },
    { last: "leaves", op: "allReduce of 32 MB", mode: "wait" },
    { last: "leaves", op: "recv", mode: "await" },
    { last: "aborts", op: "allReduce", mode: "await" },
    { last: "aborts", op: "recv", mode: "wait" },
  ];
  test
    .skipIf(isLeftOut)
    .each(losses.map((args, i): [string, number, LossArgs] => [Object.values(args).join(", "), 2 + (i % 2), args]))(
    "a rank %s, %d ranks",
    async (_, worldSize, args) => {
      const last = worldSize - 1;
      const { job: place, options } = await jobOf(worldSize);
      await using _place = place;
      const job = await startRanks(worldSize, fixture("loss"), { ...options, args, timeout: "40s" });
      const stops = args.last === "stops";
      if (stops) {
        await Promise.all(job.ranks.slice(0, last).map((rank) => rank.reported((report) => report === "ended")));
        job.ranks[last]?.kill("SIGKILL");
      }
      const outcomes = await job.done;
      for (const loss of allWell<Loss>(outcomes.slice(0, last))) {
        expect(loss.error).toMatchObject(
          stops
            ? { name: "DistTimeoutError", code: "OP_TIMEOUT", details: { peers: [last] } }
            : { name: "DistNetworkError", code: "PEER_LOST", details: { peers: [last] } },
        );
        expect(loss.state).toBe("FAILED");
        expect(loss.next?.code).toBe("GROUP_FAILED");
        if (!stops) expect(loss.at - Number(outcomes[last]?.reports[0])).toBeLessThan(4_500);
        expect(loss.endMs).toBeLessThan(3_000);
      }
    },
  );

  const underWay: readonly UnderWayArgs[] = [
    { op: "allReduce", mode: "wait", timeout: 30_000 },
    { op: "allReduce of 16 MB", mode: "wait", timeout: 30_000 },
    { op: "allReduce of 16 MB", mode: "await", timeout: 30_000 },
    { op: "allToAll of 16 MB", mode: "wait", timeout: 30_000 },
    { op: "messages of 16 MB", mode: "await", timeout: 30_000 },
  ];
  test.skipIf(isLeftOut).each(underWay)("SIGKILL in the middle of $op, $mode", async (args) => {
    const { job: place, options } = await jobOf(3);
    await using _place = place;
    const job = await startRanks(3, fixture("under-way"), { ...options, args, timeout: "60s" });
    await Promise.all(job.ranks.map((rank) => rank.reported((report) => report === "under way")));
    await Bun.sleep(50);
    job.ranks[2]?.kill("SIGKILL");
    const outcomes = await job.done;
    for (const { error, wrong, state } of allWell<UnderWay>(outcomes.slice(0, 2))) {
      expect(wrong).toBe(0);
      expect(state).toBe("FAILED");
      expect(error).toMatchObject({ name: "DistNetworkError", code: "PEER_LOST", details: { peers: [2] } });
    }
  });

  test.skipIf(isLeftOut)("messages that do not match are an error on every rank", async () => {
    const { job, options } = await jobOf(3);
    await using _job = job;
    for (const ends of allWell<MismatchEnd[]>(
      await spawnRanks(3, fixture("mismatch"), { ...options, timeout: "80s" }),
    )) {
      for (const { name, error, state } of ends) {
        expect({ name, error: error?.code, state }).toEqual({ name, error: "DESYNC", state: "FAILED" });
        expect(error?.message).toMatch(/rank 0 sent \w+\[\d+\] with tag 5, rank 2 was to receive \w+\[\d+\]/);
      }
    }
  });

  test.skipIf(isLeftOut)("ranks that leave in good order cause no failure, whichever leaves first", async () => {
    const { job, options } = await jobOf(3);
    await using _job = job;
    const ends = allWell<Rounds>(
      await spawnRanks(3, fixture("rounds"), { ...options, args: { rounds: 30 }, timeout: "80s" }),
    );
    expect(ends).toEqual(ends.map(() => ({ right: 30, errors: [] })));
  });
});
