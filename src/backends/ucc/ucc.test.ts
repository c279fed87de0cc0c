import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks, startRanks } from "../../testing/index.ts";
import { allWell, describeUcc, spawn } from "./fixtures/availability.ts";
import type { BadInput } from "./fixtures/bad-input.ts";
import type { CpuUse } from "./fixtures/cpu-use.ts";
import type { Loss, LossArgs } from "./fixtures/loss.ts";
import plugin from "./plugin.ts";

setDefaultTimeout(60_000);

const fixture = (name: string): URL => new URL(`./fixtures/${name}.ts`, import.meta.url);

describe("ucc plugin", () => {
  test("tells whether UCC is there, and what gets it", async () => {
    const availability = await plugin.probe();
    if (availability.available) {
      expect(availability.version).toMatch(/^\d+\.\d+/);
      return;
    }
    expect(availability.reason).toMatch(/libucc|libc10d_ucc/);
    expect(availability.remedy).toContain("./bootstrap");
  });
});

describeUcc("ucc", () => {
  const losses: readonly LossArgs[] = [
    { last: "is killed", op: "allReduce", mode: "wait" },
    { last: "is killed", op: "allReduce of 32 MB", mode: "await" },
    { last: "is killed", op: "recv", mode: "wait" },
    { last: "is killed", op: "send of 32 MB", mode: "wait" },
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
        // It takes no part in its own end.
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

  test("what UCC cannot do is refused, and the group goes on", async () => {
    for (const each of allWell<BadInput>(await spawnRanks(2, fixture("bad-input"), { ...spawn, timeout: "20s" }))) {
      expect(each.tag).toMatchObject({ name: "InvalidArgumentError" });
      expect(each.tag?.message).toContain("tags up to 32759");
      expect(each.monitored).toMatchObject({ name: "UnsupportedOperationError" });
      expect(each.anySource).toMatchObject({ name: "UnsupportedOperationError" });
      expect(each.state).toBe("OPEN");
    }
  });

  test("an open group uses no CPU, an op that is awaited little", async () => {
    const [use] = allWell<CpuUse>(await spawnRanks(2, fixture("cpu-use"), { ...spawn, timeout: "20s" }));
    console.log("share of a CPU with ucc:", JSON.stringify(use));
    expect(use?.idle).toBeLessThan(0.05);
    expect(use?.awaited).toBeLessThan(0.25);
  });

  test("UCX_* and UCC_* hold, and a wrong one is an error that says so", async () => {
    const run = (env: Record<string, string>) =>
      spawnRanks(2, fixture("start"), { ...spawn, args: { timeout: "10s" }, env, timeout: "20s" });
    const [overTcp, nowhere, wrong] = await Promise.all([
      run({ UCX_TLS: "tcp,self", UCX_LOG_LEVEL: "info" }),
      run({ UCX_TLS: "nonsense" }),
      run({ UCC_CLS: "nonsense" }),
    ]);
    expect(allWell(overTcp)).toEqual(["well", "well"]);
    for (const { stderr, stdout } of overTcp) {
      expect(stderr).toContain("tag(tcp/");
      expect(stdout).toBe("");
    }
    for (const { error, stderr } of [...nowhere, ...wrong]) {
      expect(error).toMatchObject({ name: "DistBackendError" });
      expect(error?.message).toMatch(/UCC cannot .*, its log on standard error says why: /);
      expect(stderr).toContain("nonsense");
    }
  });

  test("a rank that never comes is named when the time is up", async () => {
    const [outcome] = await spawnRanks(1, fixture("start"), {
      ...spawn,
      args: { timeout: "1s" },
      env: { WORLD_SIZE: "2" },
      timeout: "15s",
    });
    expect(outcome?.error).toMatchObject({ name: "DistTimeoutError", code: "CONNECT_TIMEOUT" });
    expect(outcome?.error?.message).toContain("rank 1 has not come");
  });
});
