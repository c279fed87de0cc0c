import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { CliProcess, endWithin, fixture } from "../../src/cli/fixtures/cli-process.ts";
import { TwoHosts } from "./two-hosts.ts";

setDefaultTimeout(60_000);

const impossible = await TwoHosts.impossible();
const required = process.env.C10D_REQUIRE_NETNS === "1";
if (impossible !== undefined) console.log(`multi-host tests are skipped, no network namespaces: ${impossible}`);

test.skipIf(impossible !== undefined && !required)("this machine can have network namespaces", () => {
  expect(impossible).toBeUndefined();
});

describe.skipIf(impossible !== undefined)("c10d run on two hosts", () => {
  /** Launchers with two ranks on each host. */
  async function start(hosts: TwoHosts, flags: readonly string[], program: readonly string[]) {
    const [address] = TwoHosts.addresses;
    const nodes = ([0, 1] as const).map((node) => {
      const place = ["--nnodes", "2", "--node-rank", String(node), "--rdzv-endpoint", `${address}:29500`];
      return new CliProcess(
        ["run", "-n", "2", ...place, "--no-prefix", ...flags, ...program],
        { C10D_STORE_SECRET: "for this test" },
        { within: hosts.on(node) },
      );
    });
    const [first, second] = nodes;
    if (first === undefined || second === undefined) throw new Error("two nodes were started");
    const dispose = async () => {
      await Promise.all(nodes.map((node) => node[Symbol.asyncDispose]()));
    };
    return { nodes: [first, second] as const, [Symbol.asyncDispose]: dispose };
  }

  const places = (text: string) =>
    text
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as { rank: number; sum: number; rounds: number; MASTER_ADDR: string })
      .sort((a, b) => a.rank - b.rank);

  async function expectRightSums(nodes: readonly CliProcess[], leastRounds: number): Promise<void> {
    expect(await Promise.all(nodes.map((node) => node.exitCode()))).toEqual([0, 0]);
    for (const [node, { stdout }] of nodes.entries()) {
      const found = places(stdout);
      expect(found).toMatchObject(
        [0, 1].map((local) => ({ rank: node * 2 + local, sum: 10, MASTER_ADDR: TwoHosts.addresses[0] })),
      );
      expect(found.every(({ rounds }) => rounds >= leastRounds)).toBe(true);
    }
  }

  test.concurrent("four ranks reduce", async () => {
    await using hosts = await TwoHosts.make();
    await using job = await start(hosts, [], [fixture("nodes.ts")]);
    await expectRightSums(job.nodes, 1);
  });

  test.concurrent("a rank that fails on one host ends the job on both", async () => {
    await using hosts = await TwoHosts.make();
    await using job = await start(hosts, [], [fixture("fail.ts"), "3", "throw", "300"]);
    expect(await Promise.all(job.nodes.map((node) => node.exitCode()))).toEqual([1, 1]);
    for (const { stderr } of job.nodes) expect(stderr).toContain("boom in rank 3");
  });

  test.concurrent.each([0, 1] as const)(
    "the link of host %d is cut during ops for 2 s: they continue",
    async (host) => {
      await using hosts = await TwoHosts.make();
      // Long enough that a busy machine cuts the link while they run.
      await using job = await start(hosts, [], [fixture("nodes.ts"), "4"]);
      await Promise.all(job.nodes.map((node) => node.pids(2)));
      await Bun.sleep(300);
      await hosts.cut(host);
      try {
        await Bun.sleep(2_000);
        // No rank could continue, and none gave up.
        expect(job.nodes.map(({ stdout }) => places(stdout))).toEqual([[], []]);
      } finally {
        await hosts.restore(host);
      }
      await expectRightSums(job.nodes, 3);
    },
  );

  test.concurrent.each([0, 1] as const)(
    "the link of host %d is cut while ranks wait in the store: they continue",
    async (host) => {
      await using hosts = await TwoHosts.make();
      await using job = await start(hosts, [], [join(import.meta.dir, "fixtures", "wait-for-key.ts"), "2.5"]);
      await Promise.all(job.nodes.map((node) => node.pids(2)));
      await hosts.cut(host);
      await Bun.sleep(1_500);
      await hosts.restore(host);
      expect(await Promise.all(job.nodes.map((node) => node.exitCode()))).toEqual([0, 0]);
      for (const { stdout } of job.nodes) expect(stdout.match(/got started/g)).toHaveLength(2);
    },
  );

  test.concurrent.each([0, 1] as const)(
    "the link of host %d is cut permanently: both hosts end the job in time",
    async (host) => {
      await using hosts = await TwoHosts.make();
      await using job = await start(hosts, ["--node-timeout", "2s", "--grace", "500ms"], [fixture("nodes.ts"), "60"]);
      const pids = (await Promise.all(job.nodes.map((node) => node.pids(2)))).flat();
      await hosts.cut(host);
      try {
        const cutAt = performance.now();
        expect(await Promise.all(job.nodes.map((node) => node.exitCode()))).toEqual([1, 1]);
        // 2 s, two heartbeats, the end of the ranks.
        expect(performance.now() - cutAt).toBeLessThan(10_000);
        for (const { stderr } of job.nodes) expect(stderr).toMatch(/node \d is lost: its (launcher|store)/);
        expect(await endWithin(pids, 2_000)).toBe(true);
      } finally {
        await hosts.restore(host);
      }
    },
  );
});
