import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { type SpawnOptions, spawnRanks, startRanks } from "bun-c10d/testing";
import { describeGloo } from "../../src/backends/gloo/fixtures/availability.ts";
import { describeMpi, launchWith } from "../../src/backends/mpi/fixtures/availability.ts";
import { implementations } from "../../src/backends/mpi/implementation.ts";
import { describeUcc, spawn } from "../../src/backends/ucc/fixtures/availability.ts";
import { sweepFromEnvironment } from "../../src/testing/backend-suite/backend-suite.ts";
import { smokeSample } from "../../src/testing/backend-suite/smoke-sample.ts";
import type { ReportedError } from "../../src/testing/index.ts";
import type { AbsentArgs } from "./fixtures/absent-rank.ts";
import type { Forming, FormingArgs } from "./fixtures/forming-rank.ts";
import type { Paused, PausedArgs } from "./fixtures/paused-rank.ts";
import type { Queued, QueuedArgs } from "./fixtures/queued-rank.ts";

setDefaultTimeout(90_000);

/** In a smoke sweep, each MPI has one of the cases in which it busy-waits. */
const sweep = sweepFromEnvironment();
const fixture = (name: string): URL => new URL(`./fixtures/${name}.ts`, import.meta.url);

/** Time-out for connecting; a dead process must be noticed long before it, even on a loaded machine. */
const timeout = 40_000;
const NOTICED_MS = 20_000;

/** World size, rank that dies, and the index of the value that its backend then requests from the store. */
type Death = readonly [worldSize: number, culprit: number, diesAt: number];

function testDeaths(backend: string, deaths: readonly Death[], options: SpawnOptions): void {
  test.each(smokeSample(`deaths in groups that form by ${backend}`, deaths, 3))(
    "of %d ranks, rank %d is killed when it requests value %d",
    async (worldSize, culprit, diesAt) => {
      const args: FormingArgs = { backend, timeout, culprit, diesAt };
      const job = await startRanks(worldSize, fixture("forming-rank"), { ...options, args, timeout: "80s" });
      const outcomes = await job.done;
      expect(outcomes[culprit]?.signal).toBe("SIGKILL");
      const died = Number(outcomes[culprit]?.reports[0]);
      for (const { rank, value, error, hung } of outcomes) {
        if (rank === culprit) continue;
        expect([error, hung]).toEqual([undefined, false]);
        const { error: creationError, opError, at } = value as Forming;
        // A rank that had connected to it by then has made the group, and sees it die in its first op.
        const failure = creationError ?? opError;
        expect(failure).toMatchObject({ name: "DistNetworkError", code: "PEER_LOST", details: { peers: [culprit] } });
        expect(failure?.message).toContain(`rank ${culprit}`);
        expect(at - died).toBeLessThan(NOTICED_MS);
      }
    },
  );
}

function testAbsences(backend: string, turn: number, options: SpawnOptions): void {
  const absences = [
    [3, 0],
    [4, 1],
    [4, 3],
  ] as const;
  // They mostly wait.
  test.concurrent.each(smokeSample(`ranks absent from groups of ${backend}`, absences, 2, turn))(
    "of %d ranks, rank %d does not join",
    async (worldSize, absent) => {
      const args: AbsentArgs = { backend, absent, timeout: 6_000 };
      const outcomes = await spawnRanks(worldSize, fixture("absent-rank"), { ...options, args, timeout: "80s" });
      for (const { rank, value, error, hung } of outcomes) {
        expect([error, hung]).toEqual([undefined, false]);
        if (rank === absent) continue;
        const failure = value as ReportedError | undefined;
        expect(failure).toMatchObject({
          name: "DistTimeoutError",
          code: "CONNECT_TIMEOUT",
          details: { peers: [absent] },
        });
        expect(failure?.message).toContain(`rank ${absent} did not join the group`);
      }
    },
  );
}

/** A rank that is stopped when all have joined, so that the others are in MPI, and continues later. */
function testPauses(implementation: (typeof implementations)[number], turn: number): void {
  const all = [
    [0, false],
    [2, true],
  ] as const;
  const sampled = all.filter((_, i) => sweep.full || (sweep.seed + turn) % all.length === i);
  if (!sweep.full) {
    const names = sampled.map(([culprit, late]) => `rank ${culprit} stopped${late ? ", with a late reply" : ""}`);
    console.log(`sample: groups that form by ${implementation}: ${names.join("; ")}, C10D_SEED=${sweep.seed}`);
  }
  // One at a time: MPI busy-waits.
  test.serial.each(sampled)("rank %d is stopped, and gets a late reply: %p", async (culprit, answeredLate) => {
    const args: PausedArgs = { culprit, answeredLate };
    const options = { ...launchWith(implementation), args, timeout: 85_000 };
    const outcomes = await spawnRanks(3, fixture("paused-rank"), options);
    for (const { rank, value, error, hung } of outcomes) {
      expect([error, hung]).toEqual([undefined, false]);
      const { error: first, later, sums } = value as Paused;
      expect(sums).toEqual([6, 6]);
      if (rank === culprit) {
        expect(first?.code).toBe("CONNECT_TIMEOUT");
        expect(first?.message).toMatch(/rank \d has given up making the group: /);
        expect(first?.message).toContain(`rank ${culprit} did not join the group`);
        expect(first?.details?.peers).toBeUndefined();
        continue;
      }
      const [ofAll, ofOthers] = later;
      for (const failure of [first, ofAll]) {
        expect(failure).toMatchObject({ code: "CONNECT_TIMEOUT", details: { peers: [culprit] } });
      }
      for (const failure of [ofAll, ofOthers]) {
        expect(failure?.code).toBe("CONNECT_TIMEOUT");
        expect(failure?.message).toContain(
          `group "1", which is made before this one: its rank ${culprit} has not joined it`,
        );
      }
      expect(ofOthers?.details?.peers).toBeUndefined();
    }
  });
}

/** Groups that wait for an earlier one that a rank does not join. */
function testQueue(implementation: (typeof implementations)[number]): void {
  test.each([0, 2])("rank %d does not join, and others wait for the group", async (absent) => {
    const args: QueuedArgs = { absent };
    const outcomes = await spawnRanks(3, fixture("queued-rank"), {
      ...launchWith(implementation),
      args,
      timeout: "80s",
    });
    const before = 'timed out waiting for group "1", which is made before this one';
    for (const { rank, value, error, hung } of outcomes) {
      expect([error, hung]).toEqual([undefined, false]);
      if (rank === absent) continue;
      const { ofAll, ofOthers, early } = value as Queued;
      for (const failure of ofAll) {
        expect(failure).toMatchObject({ code: "CONNECT_TIMEOUT", details: { peers: [absent] } });
      }
      for (const failure of [ofAll[1], ofOthers]) {
        expect(failure?.message).toContain(`${before}: its rank ${absent} has not joined it`);
      }
      for (const failure of [ofOthers, early]) {
        expect(failure?.code).toBe("CONNECT_TIMEOUT");
        expect(failure?.details?.peers).toBeUndefined();
      }
      expect(early?.message).toContain(`${before}; it is not yet known which of its ranks are missing`);
    }
  });
}

describe("while a group is created", () => {
  describeGloo("by gloo", () => {
    testDeaths(
      "gloo",
      [
        [3, 0, 0],
        [3, 2, 1],
        [4, 2, 0],
        [4, 1, 2],
      ],
      {},
    );
    testAbsences("gloo", 0, {});
  });

  describeUcc("by ucc", () => {
    testDeaths(
      "ucc",
      [
        [3, 0, 0],
        [3, 1, 2],
        [3, 2, 5],
        [4, 2, 0],
        [4, 0, 3],
        [4, 3, 6],
        [4, 1, 8],
      ],
      spawn,
    );
    testAbsences("ucc", 1, spawn);
  });

  for (const [turn, implementation] of implementations.entries()) {
    describeMpi("by mpi", implementation, () => {
      testAbsences("mpi", turn + 2, launchWith(implementation));
      testPauses(implementation, turn);
      testQueue(implementation);
    });
  }
});
