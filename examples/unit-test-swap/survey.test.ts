import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createContainer, destroyProcessGroup, HashStore, initProcessGroup, type Store } from "bun-c10d";
import { fakeInPlaceOf, LocalRanksError, localRanks } from "bun-c10d/testing";
import { runSurvey, survey } from "./survey.ts";

// The one line. In your own project it belongs in the preload of `bun test`; here other tests run afterwards.
beforeAll(() => void createContainer({ overrides: [fakeInPlaceOf("gloo")], install: true }));
afterAll(() => void createContainer({ install: true }));

const shards = [Float64Array.of(1, 2), new Float64Array(0), Float64Array.of(-3, 4, 6)];
const shardOf = (rank: number): Float64Array => shards[rank] ?? new Float64Array(0);
const expected = { count: 5, mean: 2, smallest: -3, largest: 6, richest: 2 };

describe("a survey, without Gloo, in this process", () => {
  test("the whole application, which uses gloo, as three ranks", async () => {
    const run = localRanks(3, (meeting) => runSurvey(shardOf(meeting.rank), pick(meeting)), { init: false });
    expect(await run).toEqual([expected, expected, expected]);
  });

  test("the part that only needs a group", async () => {
    expect(await localRanks(3, ({ rank }) => survey(shardOf(rank)))).toEqual([expected, expected, expected]);
  });

  test.each([1, 2, 3, 4, 5])("in any order in which its ops may end, seed %d", async (seed) => {
    const all = await localRanks(3, ({ rank }) => survey(shardOf(rank)), { options: { seed } });
    expect(all).toEqual([expected, expected, expected]);
  });

  test("no rank has samples", async () => {
    const error = await localRanks(2, () => survey(new Float64Array(0))).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(LocalRanksError);
    expect(String(error)).toContain("rank 0: no rank has any samples");
  });

  test("one rank of a thousand, without the others", async () => {
    const solo = { store: new HashStore(), rank: 7, worldSize: 1_000, options: { mode: "solo" } };
    expect(await runSurvey(Float64Array.of(5), solo)).toMatchObject({ count: 1, mean: 5, richest: 0 });
  });

  test("the network breaks at the third op", async () => {
    const broken = { store: new HashStore(), rank: 0, worldSize: 2, options: { mode: "solo", failAt: 3 } };
    expect(runSurvey(Float64Array.of(5), broken)).rejects.toMatchObject({ code: "INJECTED_FAILURE" });
  });
});

test("C10D_BACKEND=fake works, too, if the application names no backend", async () => {
  const before = process.env.C10D_BACKEND;
  process.env.C10D_BACKEND = "fake";
  try {
    const all = await localRanks(
      3,
      async (meeting) => {
        await initProcessGroup(pick(meeting));
        const result = await survey(shardOf(meeting.rank));
        await destroyProcessGroup();
        return result;
      },
      { init: false },
    );
    expect(all).toEqual([expected, expected, expected]);
  } finally {
    if (before === undefined) delete process.env.C10D_BACKEND;
    else process.env.C10D_BACKEND = before;
  }
});

function pick({ store, rank, worldSize }: { store: Store; rank: number; worldSize: number }) {
  return { store, rank, worldSize };
}
