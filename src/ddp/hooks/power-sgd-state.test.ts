import { describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "../../errors/index.ts";
import { localRanks } from "../../testing/index.ts";
import { noise, train } from "./fixtures/given-gradients.ts";
import { powerSGDHook } from "./power-sgd-hook.ts";
import { PowerSGDState, type SavedPowerSGDState } from "./power-sgd-state.ts";

describe("options", () => {
  test("defaults", () => {
    expect(new PowerSGDState().save()).toEqual({
      options: {
        matrixApproximationRank: 1,
        startPowerSGDIter: 1000,
        minCompressionRate: 2,
        useErrorFeedback: true,
        warmStart: true,
        orthogonalizationEpsilon: 0,
        randomSeed: 0,
        compressionStatsLoggingFrequency: 10_000,
        batchTensorsWithSameShape: false,
      },
      iter: 0,
      seedsDrawn: 0,
      numelBeforeCompression: 0,
      numelAfterCompression: 0,
      nextStatsReport: 0,
      buckets: [],
    });
  });

  test.each<[unknown, RegExp]>([
    [{ matrixApproximationRank: 0 }, /matrixApproximationRank must be an integer from 1 on, got 0/],
    [{ matrixApproximationRank: 1.5 }, /matrixApproximationRank must be an integer/],
    [{ startPowerSGDIter: -1 }, /startPowerSGDIter must be an integer from 0 on/],
    [{ startPowerSGDIter: 1 }, /Expect `startPowerSGDIter` > 1 if `useErrorFeedback` or `warmStart` is enabled/],
    [{ startPowerSGDIter: 0, warmStart: false }, /`startPowerSGDIter` > 1/],
    [{ minCompressionRate: Number.NaN }, /minCompressionRate must be a number from 0 on, got NaN/],
    [{ orthogonalizationEpsilon: "1e-8" }, /orthogonalizationEpsilon must be a number from 0 on, got "1e-8"/],
    [{ randomSeed: -1 }, /Seed must be between 0 and 2\*\*32 - 1/],
    [{ compressionStatsLoggingFrequency: 0 }, /compressionStatsLoggingFrequency must be an integer from 1 on/],
    [{ warmStart: 1 }, /warmStart must be true or false/],
    [{ matrix_approximation_rank: 2 }, /unknown option matrix_approximation_rank/],
    [null, /options/],
  ])("%o is refused", (options, message) => {
    const make = () => new PowerSGDState(options as object);
    expect(make).toThrow(InvalidArgumentError);
    expect(make).toThrow(message);
  });

  test("without error feedback and warm start, compression may begin at once", () => {
    const state = new PowerSGDState({ startPowerSGDIter: 0, useErrorFeedback: false, warmStart: false });
    expect(state.startPowerSGDIter).toBe(0);
  });
});

/** A training of two ranks, in which states may be exchanged after two steps. */
function trained(options: object, exchange: (state: PowerSGDState) => PowerSGDState, rows = 20) {
  return localRanks(2, async ({ rank }) => {
    let state = new PowerSGDState({ startPowerSGDIter: 2, ...options });
    return train({
      shapes: { a: [rows, 12], b: [7] },
      steps: 8,
      gradient: (i, name, step) => noise(i, rank * 5 + step * 11 + name.length),
      register: (model) => {
        // The hook takes what is the state at the time.
        model.registerCommHook(undefined, (_, bucket) => powerSGDHook(state, bucket));
      },
      after: (_, step) => {
        if (step === 4) state = exchange(state);
      },
    });
  });
}

describe("save and restore", () => {
  test.each([{}, { warmStart: false }, { useErrorFeedback: false }, { matrixApproximationRank: 3 }])(
    "a restored state goes on as the saved one would have: %o",
    async (options) => {
      const through = await trained(options, (state) => state);
      const restored = await trained(options, (state) => {
        const saved = structuredClone(state.save());
        const copy = PowerSGDState.restore(saved);
        expect(copy.save()).toEqual(saved);
        expect(copy.iter).toBe(5);
        expect(copy.compressionStats()).toEqual(state.compressionStats());
        return copy;
      });
      expect(restored).toEqual(through);
    },
  );

  test("a new state would not have gone on like that", async () => {
    const through = await trained({}, (state) => state);
    const other = await trained({}, () => new PowerSGDState({ startPowerSGDIter: 2 }));
    expect(other).not.toEqual(through);
  });

  test("what was saved does not change with the state", async () => {
    let saved: SavedPowerSGDState | undefined;
    let before = "";
    await trained({}, (state) => {
      saved ??= state.save();
      before ||= JSON.stringify(saved);
      return state;
    });
    expect(JSON.stringify(saved)).toBe(before);
  });

  test("of other parameters is refused", async () => {
    let saved: SavedPowerSGDState | undefined;
    await trained({}, (state) => {
      saved ??= state.save();
      return state;
    });
    const other = trained({}, () => PowerSGDState.restore(saved as SavedPowerSGDState), 21);
    await expect(other).rejects.toThrow(/bucket 0 has other parameters.*make a new PowerSGDState/);
  });

  test.each<[unknown, RegExp]>([
    [undefined, /restore\(\) takes what save\(\) returned, got undefined/],
    [{}, /restore\(\) takes what save\(\) returned/],
    [{ ...new PowerSGDState().save(), iter: -1 }, /iter must be an integer from 0 on, got -1/],
    [{ ...new PowerSGDState().save(), options: { rank: 1 } }, /unknown option rank/],
  ])("%o is refused", (saved, message) => {
    const restore = () => PowerSGDState.restore(saved as SavedPowerSGDState);
    expect(restore).toThrow(InvalidArgumentError);
    expect(restore).toThrow(message);
  });
});

test("a saved state that would take hours to restore is refused", () => {
  const saved = { ...new PowerSGDState().save(), seedsDrawn: 1e15 };
  expect(() => PowerSGDState.restore(saved)).toThrow("seedsDrawn: at most 100000000 can be drawn again");
});
