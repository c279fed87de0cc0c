import { describe, expect, test } from "bun:test";
import { HashStore } from "../../store/index.ts";
import {
  CREATION,
  consultOnFailure,
  type FailureReport,
  type FailureVerdict,
  firstFailure,
  reportFailure,
} from "./failure-report.ts";

const report = (rank: number, kind: FailureReport["kind"], peer: number, seq = 3): FailureReport => ({
  rank,
  op: "allReduce",
  seq,
  called: seq,
  kind,
  text: `${kind} at rank ${rank}`,
  peer,
  ranks: [],
});

/** The same for a message. */
const message = (...args: Parameters<typeof report>): FailureReport => ({ ...report(...args), op: "recv" });

/** The same for a group that is not made. */
const creation = (rank: number, kind: FailureReport["kind"], peer: number, ranks: number[] = []): FailureReport => ({
  ...report(rank, kind, peer, 0),
  op: CREATION,
  ranks,
});

/** One that takes a while to exchange values. */
class SlowStore extends HashStore {
  constructor(private readonly delayMs: number) {
    super();
  }

  override async compareSet(...args: Parameters<HashStore["compareSet"]>): Promise<Uint8Array> {
    const limitMs = Number(args[3]?.timeout);
    await Bun.sleep(Math.min(limitMs, this.delayMs));
    if (limitMs < this.delayMs) throw new Error("the store is slow");
    return super.compareSet(...args);
  }
}

/** The verdicts of the ranks that report, each with its own report. */
function consult(size: number, reports: readonly FailureReport[]): Promise<FailureVerdict[]> {
  const store = new HashStore();
  return Promise.all(reports.map((own) => consultOnFailure(store, size, own)));
}

describe("ranks that agree on a failure", () => {
  const cases: Readonly<Record<string, { size: number; reports: FailureReport[]; culprits: number[]; cause: number }>> =
    {
      "blame the one whose connection broke and which is silent": {
        size: 4,
        reports: [report(0, "lost", 1), report(1, "lost", 2), report(3, "lost", 0)],
        culprits: [2],
        cause: 0,
      },
      "blame the silent one when a time-out cascades": {
        size: 3,
        reports: [report(1, "lost", 0), report(0, "timeout", 1)],
        culprits: [2],
        cause: 0,
      },
      "do not blame an idle rank that no other rank named": {
        size: 4,
        reports: [report(0, "lost", 3), report(1, "lost", 3)],
        culprits: [3],
        cause: 0,
      },
      "blame the rank that is behind": {
        size: 2,
        reports: [report(0, "timeout", 1, 7), report(1, "lost", 0, 6)],
        culprits: [1],
        cause: 0,
      },
      "blame no rank for the op that it reported, if it called the later ones too": {
        size: 3,
        reports: [report(0, "timeout", 1, 7), { ...report(2, "lost", 0, 6), called: 7 }, report(1, "lost", 0, 6)],
        culprits: [1],
        cause: 0,
      },
      "blame the peer, not ranks that are behind one whose part of the op had ended": {
        size: 3,
        reports: [report(0, "timeout", 2, 4), report(1, "lost", 0, 5), report(2, "lost", 0, 4)],
        culprits: [2],
        cause: 0,
      },
      "blame all ranks that are missing according to the rank that knows, though another one timed out first": {
        size: 4,
        reports: [report(3, "timeout", 1), { ...report(0, "timeout", 1), ranks: [1, 2] }],
        culprits: [1, 2],
        cause: 0,
      },
      "blame a rank that did not arrive to make a group, not one that gave up because of that": {
        size: 4,
        reports: [creation(0, "timeout", 2), creation(1, "timeout", 0), creation(3, "lost", 1)],
        culprits: [2],
        cause: 0,
      },
      "blame all ranks that did not arrive to make a group, if a rank knows them": {
        size: 5,
        reports: [creation(1, "timeout", 0), creation(0, "timeout", 2, [2, 4]), creation(3, "lost", 1)],
        culprits: [2, 4],
        cause: 1,
      },
      "blame a rank that arrived to make a group when the others had given up": {
        size: 3,
        reports: [creation(1, "timeout", 0), creation(0, "timeout", 2), creation(2, "lost", -1)],
        culprits: [2],
        cause: 1,
      },
      "blame a rank for its own error in making a group": {
        size: 3,
        reports: [creation(1, "other", -1), creation(0, "lost", 1), creation(2, "lost", 0)],
        culprits: [1],
        cause: 1,
      },
      "blame the peer of a message, not an idle rank": {
        size: 4,
        reports: [message(0, "other", 2), message(2, "lost", 0)],
        culprits: [2],
        cause: 0,
      },
      "blame no rank for a message that may come from any rank": {
        size: 3,
        reports: [message(0, "timeout", -1)],
        culprits: [],
        cause: 0,
      },
      "blame the rank at a message whose peer waits in a collective, though the message timed out first": {
        size: 3,
        reports: [{ ...message(1, "timeout", 0, 1), called: 2 }, report(0, "lost", 1), report(2, "lost", 0)],
        culprits: [1],
        cause: 1,
      },
      "blame the rank at a message to any rank, if all others wait in a collective": {
        size: 3,
        reports: [{ ...message(1, "timeout", -1, 1), called: 2 }, report(0, "lost", 1), report(2, "lost", 0)],
        culprits: [1],
        cause: 1,
      },
      "blame the peer of a message that times out after its rank has called the collective": {
        size: 3,
        reports: [message(1, "timeout", 0), report(0, "lost", 1), report(2, "lost", 0)],
        culprits: [0],
        cause: 1,
      },
      "do not blame a rank that waits for a message of another one that is behind": {
        size: 4,
        reports: [
          report(0, "timeout", 2),
          { ...message(1, "lost", 2, 9), called: 2 },
          { ...message(2, "lost", 0, 9), called: 2 },
          report(3, "lost", 1),
        ],
        culprits: [2],
        cause: 0,
      },
      "blame neither of two that receive from each other": {
        size: 3,
        reports: [message(0, "timeout", 1), message(1, "timeout", 0), report(2, "lost", 1)],
        culprits: [],
        cause: 0,
      },
      "blame a peer whose message was with another rank": {
        size: 3,
        reports: [message(0, "timeout", 1), message(1, "lost", 2), message(2, "lost", 1)],
        culprits: [1],
        cause: 0,
      },
      "do not compare the numbers of messages with those of collectives": {
        size: 3,
        reports: [report(0, "timeout", 2, 7), report(1, "lost", 0, 7), message(2, "lost", 0, 1)],
        culprits: [2],
        cause: 0,
      },
      "blame all ranks that a monitored barrier missed": {
        size: 4,
        reports: [{ ...report(0, "timeout", 1), ranks: [1, 3] }, report(2, "lost", 0)],
        culprits: [1, 3],
        cause: 0,
      },
      "blame no rank for calls that differ, whatever else broke because of them": {
        size: 3,
        reports: [report(0, "lost", 2), report(1, "desync", 0), report(2, "timeout", 1)],
        culprits: [],
        cause: 1,
      },
      "blame the rank that aborted": {
        size: 3,
        reports: [report(0, "lost", 1), report(1, "aborted", -1)],
        culprits: [1],
        cause: 1,
      },
    };
  for (const [name, { size, reports, culprits, cause }] of Object.entries(cases)) {
    test(name, async () => {
      const verdicts = await consult(size, reports);
      for (const verdict of verdicts) {
        expect(verdict.culprits).toEqual(culprits);
        expect(verdict.cause.rank).toBe(cause);
      }
    });
  }

  test("adopt the verdict of those that were first", async () => {
    const store = new HashStore();
    const first = await consultOnFailure(store, 3, report(0, "timeout", 1));
    expect(first.culprits).toEqual([1]);
    const started = performance.now();
    const late = await consultOnFailure(store, 3, report(1, "lost", 0));
    expect(late).toEqual(first);
    expect(performance.now() - started).toBeLessThan(200);
  });

  test("blame all ranks that are known to have aborted", async () => {
    const store = new HashStore();
    await store.set("failure/first", JSON.stringify(report(3, "aborted", -1)));
    const verdict = await consultOnFailure(store, 4, report(1, "aborted", -1));
    expect([verdict.culprits, verdict.cause.rank]).toEqual([[1, 3], 3]);
  });

  test("blame no member of a group that waits for an earlier one, also if one is slow to report", async () => {
    const verdict = await consultOnFailure(new HashStore(), 2, creation(0, "timeout", 0));
    expect(verdict.culprits).toEqual([]);
    // Unlike a time-out of the group itself.
    const other = await consultOnFailure(new HashStore(), 2, creation(0, "timeout", -1));
    expect(other.culprits).toEqual([1]);
  });

  test("have more time for a slow store than for each other's reports", async () => {
    const store = new SlowStore(150);
    await store.set("failure/1", JSON.stringify(creation(1, "timeout", 2)));
    const own = creation(0, "lost", -1);
    const culpritsWith = async (storeMs: number) =>
      (await consultOnFailure(store, 3, own, { reportsMs: 100, storeMs })).culprits;
    expect(await culpritsWith(100)).toEqual([]);
    expect(await culpritsWith(5_000)).toEqual([2]);
  });

  test("use their own view if the store is gone", async () => {
    const store = new HashStore();
    await store.close();
    const own = report(0, "lost", 1);
    expect(await consultOnFailure(store, 2, own)).toEqual({ culprits: [1], cause: own, reports: [own] });
  });

  test("ignore malformed values in the store", async () => {
    const store = new HashStore();
    await store.multiSet(["failure/1", "failure/first", "failure/verdict"], ["{", "null", '{"culprits":"all"}']);
    const verdict = await consultOnFailure(store, 2, report(0, "lost", 1));
    expect(verdict.culprits).toEqual([1]);
  });

  test("publish a failure without asking the others", async () => {
    const store = new HashStore();
    expect(await firstFailure(store, 100)).toBeUndefined();
    await reportFailure(store, creation(1, "other", -1));
    await reportFailure(store, creation(2, "lost", 1));
    expect(await firstFailure(store, 100)).toEqual(creation(1, "other", -1));
    await store.close();
    await reportFailure(store, creation(0, "other", -1));
  });
});
