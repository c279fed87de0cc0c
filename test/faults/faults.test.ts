import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks, startRanks } from "bun-c10d/testing";
import { whyNoEmulator } from "../../src/backends/nccl/fixtures/emulator.ts";
import { RawConnection } from "../../src/store/tcp/fixtures/raw-connection.ts";
import { TwoHosts } from "../multi-host/two-hosts.ts";
import { allCells, backends, type Cell, nameOf, sampleCells } from "./cell.ts";
import { expectedErrors } from "./expectation.ts";
import type { UnevenArgs, UnevenResult } from "./fixtures/uneven-rank.ts";
import { listeningPorts } from "./listeners.ts";
import { errorsOnPage } from "./page.ts";
import { kindOf, lineOf, runCell } from "./run-cell.ts";

setDefaultTimeout(60_000);

const full = process.env.C10D_SWEEP === "full";
const turn = Number(process.env.C10D_SAMPLE ?? Math.floor(Date.now() / 1_000) % 1_000);
const cells = backends.flatMap((backend) => (full ? allCells(backend) : sampleCells(backend, turn)));

const impossible = await TwoHosts.impossible();
const required = process.env.C10D_REQUIRE_NETNS === "1";
if (impossible !== undefined) console.log(`skip faults of the network, no network namespaces: ${impossible}`);
if (whyNoEmulator !== undefined) console.log(`skip faults over nccl (emulator): ${whyNoEmulator}`);
const isSkipped = ({ backend, fault }: Cell): boolean =>
  (backend === "nccl" && whyNoEmulator !== undefined) || (fault === "cut" && impossible !== undefined && !required);

describe("a rank that fails", () => {
  let hosts: TwoHosts | undefined;
  beforeAll(async () => {
    if (impossible === undefined) hosts = await TwoHosts.make();
  });
  afterAll(async () => {
    await hosts?.[Symbol.asyncDispose]();
  });

  if (!full) console.log(`sample: faults C10D_SAMPLE=${turn}: ${cells.map(nameOf).join("; ")}`);
  for (const cell of cells) {
    test.skipIf(isSkipped(cell))(nameOf(cell), async () => {
      const result = await runCell(cell, hosts);
      console.log(lineOf(result));
      expect(result.problems).toEqual([]);
      const documented = errorsOnPage(cell);
      for (const { error } of result.survivors) expect(documented).toContain(kindOf(error));
    });
  }
});

test("the page of faults describes every fault, op and mode", () => {
  for (const cell of backends.flatMap(allCells)) {
    const documented = errorsOnPage(cell);
    expect(documented.length).toBeGreaterThan(0);
    expect(expectedErrors(cell.fault, cell.mode)).toEqual(expect.arrayContaining(documented));
  }
});

describe("ranks that treat an op differently", () => {
  const uneven = async (worldSize: number, args: UnevenArgs): Promise<UnevenResult[]> => {
    const outcomes = await spawnRanks(worldSize, new URL("./fixtures/uneven-rank.ts", import.meta.url), { args });
    expect(outcomes.map(({ exitCode, signal, error }) => ({ exitCode, signal, error }))).toEqual(
      outcomes.map(() => ({ exitCode: 0, signal: null, error: undefined })),
    );
    return outcomes.map(({ value }) => value as UnevenResult);
  };

  test.concurrent("a late rank is not a failure", async () => {
    const late = (mode: UnevenArgs["mode"]) => uneven(3, { kind: "late", mode });
    for (const results of await Promise.all([late("await"), late("wait")])) {
      expect(results.map(({ sum, error }) => error ?? sum)).toEqual([6, 6, 6]);
      expect(results[0]?.ms).toBeGreaterThan(900);
    }
  });

  test.concurrent("a time-out on one rank fails all of them, and all name the late one", async () => {
    const [hasty, patient, late] = await uneven(3, { kind: "timeout", mode: "await" });
    for (const result of [hasty, patient, late]) {
      expect(result?.error).toMatchObject({
        name: "DistTimeoutError",
        code: "OP_TIMEOUT",
        details: { group: "0", op: "allReduce", seq: 2, peers: [2] },
      });
    }
    expect(hasty?.error?.message).toContain("timed out after 400 ms");
    expect(patient?.error?.message).toContain("rank 0: timed out after 400 ms");
    for (const result of [hasty, patient]) expect(result?.ms).toBeWithin(390, 6_000);
    expect(late?.ms).toBeLessThan(5_000);
  });

  test.concurrent("the same for ranks that block", async () => {
    const [hasty, patient, late] = await uneven(3, { kind: "timeout", mode: "wait" });
    expect(hasty?.error).toMatchObject({ name: "DistTimeoutError", details: { op: "allReduce", seq: 2 } });
    // Rank 0 has closed its connections, but the status records show for whom it waited.
    expect(patient?.error).toMatchObject({
      name: "DistNetworkError",
      details: { op: "allReduce", seq: 2, peers: [2] },
    });
    expect(late?.error?.name).toBe("DistNetworkError");
    for (const result of [hasty, patient]) expect(result?.ms).toBeWithin(390, 6_000);
    expect(late?.ms).toBeLessThan(5_000);
  });

  test.concurrent("an abort on one rank fails the others at once", async () => {
    const [aborter, other, late] = await uneven(3, { kind: "abort", mode: "await" });
    expect(aborter?.error).toMatchObject({ name: "DistBackendError", code: "ABORTED", details: { peers: [0] } });
    for (const result of [other, late]) {
      expect(result?.error).toMatchObject({
        name: "DistNetworkError",
        details: { op: "allReduce", seq: 2, peers: [0] },
      });
      expect(result?.error?.message).toContain("rank 0");
      expect(result?.error?.message).toContain("was aborted");
    }
    for (const result of [aborter, other]) expect(result?.ms).toBeWithin(290, 6_000);
    expect(late?.ms).toBeLessThan(5_000);
  });
});

test("strangers do not disturb ranks that connect, and no listener is left over", async () => {
  const job = await startRanks(3, new URL("./fixtures/besieged-rank.ts", import.meta.url));
  const strangers: RawConnection[] = [];
  try {
    const [first, ...others] = job.ranks;
    if (first === undefined) throw new Error("no rank 0");
    await Promise.all(others.map((rank) => rank.reported((report) => report === "waiting")));
    const [port] = await untilListening(first.pid);
    if (port === undefined) throw new Error("rank 0 does not listen");
    for (let i = 0; i < 45; i++) {
      const stranger = await RawConnection.open(port);
      strangers.push(stranger);
      if (i % 3 === 1) stranger.send(new TextEncoder().encode("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
      if (i % 3 === 2) stranger.send(new Uint8Array([1, 2, 3]));
    }
    for (const rank of others) rank.kill("SIGUSR2");
    await Promise.all(job.ranks.map((rank) => rank.reported((report) => report === "connected")));
    expect(job.ranks.map((rank) => listeningPorts(rank.pid))).toEqual([[], [], []]);
    for (const stranger of strangers) expect(await stranger.hungUp()).toBe(true);
    for (const rank of job.ranks) rank.kill("SIGUSR2");
    const outcomes = await job.done;
    expect(outcomes.map(({ exitCode, value, error }) => error ?? [exitCode, value])).toEqual([
      [0, 6],
      [0, 6],
      [0, 6],
    ]);
  } finally {
    for (const stranger of strangers) stranger.close();
    await job.done;
  }
});

/** The ports that a process keeps listening on: newer Gloo opens one itself and closes it at once. */
async function untilListening(pid: number): Promise<number[]> {
  const deadline = performance.now() + 10_000;
  let before: number[] = [];
  while (performance.now() < deadline) {
    const ports = listeningPorts(pid);
    if (ports.length > 0 && Bun.deepEquals(ports, before)) return ports;
    before = ports;
    await Bun.sleep(100);
  }
  return [];
}
