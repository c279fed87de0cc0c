import { expect, jest, test } from "bun:test";
import type { RankStatus } from "../../status/index.ts";
import { StallWatch } from "./stall-watch.ts";

test("asks other nodes only while an op is pending for long, and less and less often", async () => {
  jest.useFakeTimers();
  try {
    let inFlight: { began: number }[] = [];
    const told: unknown[] = [];
    const asked: number[] = [];
    let now = 0;
    const others = [{ rank: 9 }] as RankStatus[];
    const watch = new StallWatch({
      own: () => [{ inFlight, at: 10_000, process: "sleeping" }] as unknown as RankStatus[],
      ask: async () => {
        asked.push(now);
        return others;
      },
      tell: (found) => void told.push(found),
    });
    const pass = async (seconds: number) => {
      for (const end = now + seconds; now < end; ) {
        now++;
        jest.advanceTimersByTime(1_000);
        for (let i = 0; i < 5; i++) await Promise.resolve();
      }
    };
    await pass(3);
    inFlight = [{ began: 9_500 }];
    await pass(3);
    expect(asked).toEqual([]);
    inFlight = [{ began: 8_000 }];
    await pass(20);
    expect(asked).toEqual([7, 8, 10, 14, 22]);
    expect(told).toEqual(Array(5).fill(others));
    inFlight = [];
    await pass(20);
    inFlight = [{ began: 8_000 }];
    await pass(2);
    expect(asked.slice(5)).toEqual([47, 48]);
    watch[Symbol.dispose]();
    await pass(60);
    expect(asked).toHaveLength(7);
  } finally {
    jest.useRealTimers();
  }
});
