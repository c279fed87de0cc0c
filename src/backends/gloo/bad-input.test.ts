import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { networkInterfaces } from "node:os";
import type { InitOptions } from "../../index.ts";
import { type RankOutcome, spawnRanks } from "../../testing/index.ts";
import { allWell } from "../fixtures/all-well.ts";
import { capabilities } from "./capabilities.ts";
import { describeGloo } from "./fixtures/availability.ts";
import type { MismatchArgs, MismatchOutcome } from "./fixtures/size-mismatch.ts";

setDefaultTimeout(60_000);

const fixture = (name: string): URL => new URL(`./fixtures/${name}.ts`, import.meta.url);

/** Starts `n` ranks; the i-th with the i-th options. */
function start(
  n: number,
  options: readonly InitOptions[],
  env: Record<string, string | undefined> = {},
): Promise<RankOutcome[]> {
  return spawnRanks(n, fixture("start"), { args: options, env, timeout: "20s" });
}

describe("gloo capabilities", () => {
  test("the table of capabilities names reduce ops for every dtype that can be reduced", () => {
    for (const op of ["allReduce", "allReduceCoalesced"] as const) {
      for (const dtype of capabilities.ops[op] ?? []) expect(capabilities.reduceOps[dtype]).not.toBeEmpty();
    }
  });
});

describeGloo("gloo, bad input", () => {
  test("each invalid call is refused on its own, and the next op works", async () => {
    const results = allWell<{ refusals: number; wrong: string[] }>(await spawnRanks(2, fixture("bad-input")));
    expect(results.flatMap(({ wrong }) => wrong)).toEqual([]);
    expect(results[0]?.refusals).toBeGreaterThan(80);
  });

  const differing: [number, number[][]][] = [
    [
      2,
      [
        [4, 8],
        [8, 4],
        [1, 2],
        [0, 5],
        [5, 0],
        [1_000, 1_001],
        [1, 1_000_003],
        [1_000_003, 1],
        [100_000, 100_001],
        [300_000, 30],
      ],
    ],
    [
      3,
      [
        [4, 8, 8],
        [8, 8, 4],
        [7, 7, 0],
        [1_000, 1_001, 1_000],
        [1, 1_000_003, 5],
        [100, 1_000_000, 1_000_000],
      ],
    ],
    [
      4,
      [
        [4, 8, 8, 8],
        [1_000, 1_000, 1_000, 1_001],
        [1_000_003, 1_000_003, 1_000_003, 7],
        [0, 1, 2, 3],
      ],
    ],
  ];
  test.each(differing)("sizes that differ fail the op, %d ranks", async (worldSize, shapes) => {
    const rounds = Array.from({ length: 20 }, (_, i) => shapes[i % shapes.length] ?? []);
    const args: MismatchArgs = { rounds, timeoutMs: 10_000 };
    const outcomes = await spawnRanks(worldSize, fixture("size-mismatch"), { args, timeout: "50s" });
    const results = allWell<{ outcomes: MismatchOutcome[]; healthy: boolean }>(outcomes);
    for (const [i, lengths] of rounds.entries()) {
      const ends = results.map((result) => result.outcomes[i]);
      expect({ lengths, names: ends.map((end) => end?.name) }).toEqual({
        lengths,
        names: lengths.map(() => "DistBackendError"),
      });
      for (const end of ends) expect(end?.message).toMatch(/rank \d called allReduce\(float32\[\d+\], SUM\)/);
      for (const end of ends) expect(end?.durationMs).toBeLessThan(10_000);
    }
    expect(results.every(({ healthy }) => healthy)).toBe(true);
  });

  test.each<[string, Readonly<Record<string, unknown>>, RegExp]>([
    ["an unknown option", { ifname: "lo" }, /unknown option ifname/],
    ["a host that is not an address", { host: "example.invalid" }, /host must be an IP address .*"example.invalid"/],
    ["an unknown interface", { interface: "nope0" }, /unable to find an address of interface "nope0"/],
    ["no threads", { threads: 0 }, /threads: Expected a number of threads from 1 to 64, got 0/],
  ])("%s", async (_, options, message) => {
    const [outcome] = await start(1, [{ options }]);
    expect(outcome?.error?.name).toBe("InvalidArgumentError");
    expect(outcome?.error?.message).toMatch(message);
    expect([outcome?.exitCode, outcome?.hung]).toEqual([1, false]);
  });

  test("an address that is not this machine's", async () => {
    const [outcome] = await start(1, [{ options: { host: "192.0.2.1" } }]);
    expect(outcome?.error?.name).toBeOneOf(["DistBackendError", "DistNetworkError", "InvalidArgumentError"]);
    expect(outcome?.error?.message).toContain("192.0.2.1");
    expect([outcome?.exitCode, outcome?.signal, outcome?.hung]).toEqual([1, null, false]);
  });

  test("valid host and threads", async () => {
    const options = { host: "127.0.0.1", threads: 1 };
    expect(allWell<number>(await start(2, [{ options }, { options: { threads: 8 } }]))).toEqual([2, 2]);
  });

  test("GLOO_SOCKET_IFNAME=lo", async () => {
    expect(allWell<number>(await start(2, [{}], { GLOO_SOCKET_IFNAME: "lo" }))).toEqual([2, 2]);
  });

  test("GLOO_SOCKET_IFNAME of an interface that does not exist lists those that do", async () => {
    const [outcome] = await start(1, [{}], { GLOO_SOCKET_IFNAME: "nope0" });
    expect(outcome?.error?.name).toBe("InvalidArgumentError");
    expect(outcome?.error?.message).toContain('"nope0"');
    for (const name of Object.keys(networkInterfaces())) expect(outcome?.error?.message).toContain(name);
  });

  test("an unknown backend names the known ones", async () => {
    const [outcome] = await start(1, [{ backend: "glou" }]);
    expect(outcome?.error).toMatchObject({ name: "BackendUnavailableError", code: "UNKNOWN_BACKEND" });
    expect(outcome?.error?.message).toContain('unknown backend "glou": known are gloo');
  });

  test("world sizes that differ", async () => {
    const outcomes = await start(2, [{ timeout: "1500ms" }, { worldSize: 3, timeout: "1500ms" }]);
    const errors = outcomes.flatMap(({ error }) => error ?? []);
    expect(errors).toHaveLength(2);
    expect(errors.map(({ code }) => code)).toContain("WORLD_SIZE_MISMATCH");
    const [mismatch] = errors.filter(({ code }) => code === "WORLD_SIZE_MISMATCH");
    expect(mismatch?.message).toMatch(/rank 0 has 2, rank 1 has 3|rank 1 has 3, rank 0 has 2/);
  });

  test("a rank that never arrives is named when the time is up", async () => {
    const [outcome] = await start(1, [{ timeout: "1s" }], { WORLD_SIZE: "2" });
    expect(outcome?.error).toMatchObject({ name: "DistTimeoutError", code: "CONNECT_TIMEOUT" });
    expect(outcome?.error?.message).toContain(". Do all its ranks make this group, ");
    expect(outcome?.error?.message).toContain("rank 1");
    expect(outcome?.durationMs).toBeLessThan(10_000);
  });

  test("a group that only its members make", async () => {
    const outcomes = await spawnRanks(3, fixture("members-only"), { timeout: "20s" });
    const errors = outcomes.map(({ error }) => error?.message ?? "none");
    expect(errors.join("\n")).toMatch(
      /"1": (rank 0 makes it of 0, 2, rank 1 makes it of 0, 1, 2|rank 1 makes it of 0, 1, 2, rank 2 makes it of 0, 2)\. All ranks, members or not, must make/,
    );
    expect(errors).not.toContain("none");
  });
});
