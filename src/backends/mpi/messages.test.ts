import { expect, setDefaultTimeout, test } from "bun:test";
import { smokeSample } from "../../testing/backend-suite/smoke-sample.ts";
import { spawnRanks } from "../../testing/index.ts";
import { describeMpi, launchWith } from "./fixtures/availability.ts";
import type { UnequalMessages } from "./fixtures/unequal-messages.ts";
import { leftovers, type Unreceived } from "./fixtures/unreceived.ts";
import { implementations } from "./implementation.ts";

setDefaultTimeout(120_000);

const body = new URL("./fixtures/unequal-messages.ts", import.meta.url);
const unreceived = new URL("./fixtures/unreceived.ts", import.meta.url);

for (const [turn, implementation] of implementations.entries()) {
  describeMpi("mpi messages", implementation, () => {
    const cases = [
      [2, {}],
      [3, {}],
      [2, { threads: "single" }],
    ] as const;
    test.each(smokeSample(`messages of ${implementation}`, cases, 2, turn))(
      "%d ranks, options %o: none is written beyond its buffer, and each matches its receive",
      async (n, options) => {
        const outcomes = await spawnRanks(n, body, {
          ...launchWith(implementation),
          args: { options },
          timeout: 90_000,
        });
        expect(outcomes.map(({ exitCode, error }) => ({ exitCode, error: error?.stack }))).toEqual(
          Array.from({ length: n }, () => ({ exitCode: 0, error: undefined })),
        );
        const [first] = outcomes.map(({ value }) => value as { ends: UnequalMessages[]; received: number[] });
        const { ends, received } = first ?? { ends: [], received: [] };
        expect(received).toEqual(n > 2 ? [10, 20] : [10, 11]);
        for (const { name, error, overrun } of ends) {
          const [sent, expected] = name.split(" for ").map((count) => 4 * Number(count));
          expect({ name, overrun, code: error?.code }).toEqual({ name, overrun: 0, code: "DESYNC" });
          expect(error?.message).toContain(
            `rank 1 sent ${sent} bytes with tag 7, rank 0 was to receive ${expected} bytes`,
          );
        }
      },
    );

    test.each(smokeSample(`messages that nobody received, ${implementation}`, [2, 3], 1, turn))(
      "%d ranks: a message that nobody received does not reach a later group",
      async (n) => {
        const outcomes = await spawnRanks(n, unreceived, { ...launchWith(implementation), timeout: 60_000 });
        expect(outcomes.map(({ exitCode, error }) => ({ exitCode, error: error?.stack }))).toEqual(
          Array.from({ length: n }, () => ({ exitCode: 0, error: undefined })),
        );
        const found = outcomes[1]?.value as Unreceived[];
        expect(found.length).toBe(3 * leftovers.length);
        for (const { kind, error, value } of found) {
          expect({ kind, value, code: error?.code, peers: error?.details?.peers }).toEqual({
            kind,
            value: 0,
            code: "OP_TIMEOUT",
            peers: [0],
          });
        }
      },
    );
  });
}
