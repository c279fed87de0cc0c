import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { allWell } from "../fixtures/all-well.ts";
import { describeUcc, spawn } from "./fixtures/availability.ts";
import type { BadInput } from "./fixtures/bad-input.ts";
import type { CpuUse } from "./fixtures/cpu-use.ts";
import plugin from "./plugin.ts";

setDefaultTimeout(60_000);

const fixture = (name: string): URL => new URL(`./fixtures/${name}.ts`, import.meta.url);

describe("ucc plugin", () => {
  test("reports whether UCC is available, and how to get it", async () => {
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
  test("calls that UCC does not support are refused, and the group stays usable", async () => {
    for (const each of allWell<BadInput>(await spawnRanks(2, fixture("bad-input"), { ...spawn, timeout: "20s" }))) {
      expect(each.tag).toMatchObject({ name: "InvalidArgumentError" });
      expect(each.tag?.message).toContain("tags up to 16375");
      expect(each.anySource).toMatchObject({ name: "UnsupportedOperationError" });
      expect(each.state).toBe("OPEN");
    }
  });

  test("an open group uses no CPU, an op that is waited for little", async () => {
    const [use] = allWell<CpuUse>(await spawnRanks(2, fixture("cpu-use"), { ...spawn, timeout: "20s" }));
    console.log("share of a CPU with ucc:", JSON.stringify(use));
    expect(use?.idle).toBeLessThan(0.05);
    expect(use?.awaited).toBeLessThan(0.25);
    expect(use?.waited).toBeLessThan(0.25);
  });

  test("UCX_* and UCC_* take effect, and an invalid one is an error that says so", async () => {
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
    for (const outcomes of [nowhere, wrong]) {
      // A rank may be notified of it by the other one before it fails itself.
      const [own] = outcomes.filter(({ error }) => error?.name === "DistBackendError");
      expect(own?.stderr).toContain("nonsense");
      for (const { rank, error } of outcomes) {
        expect(error?.message).toMatch(
          /UCC cannot make a (context|team): |UCC does not start: |UCC cannot read its configuration: /,
        );
        if (error?.name === "DistBackendError") continue;
        expect(error).toMatchObject({ name: "DistNetworkError", code: "PEER_LOST", details: { peers: [1 - rank] } });
      }
    }
  });

  test("no other user can read its shared memory", async () => {
    const run = (env: Record<string, string>) =>
      spawnRanks(2, fixture("segments"), { ...spawn, args: {}, env, timeout: "20s" });
    const [usual, chosen] = await Promise.all([run({}), run({ UCX_TLS: "sysv,cma,self" })]);
    expect(allWell(usual)).toEqual([[], []]);
    for (const modes of allWell<string[]>(chosen)) {
      expect(modes.length).toBeGreaterThan(0);
      for (const mode of modes) expect(mode).toMatch(/^[0-7]*600$/);
    }
  });

  test("a rank that never arrives is named when the time is up", async () => {
    const [outcome] = await spawnRanks(1, fixture("start"), {
      ...spawn,
      args: { timeout: "1s" },
      env: { WORLD_SIZE: "2" },
      timeout: "15s",
    });
    expect(outcome?.error).toMatchObject({ name: "DistTimeoutError", code: "CONNECT_TIMEOUT" });
    expect(outcome?.error?.message).toContain("rank 1 did not join the group");
  });
});
