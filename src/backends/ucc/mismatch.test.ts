import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { allWell } from "../fixtures/all-well.ts";
import { describeUcc, spawn } from "./fixtures/availability.ts";
import type { Mismatch, MismatchEnd } from "./fixtures/mismatch.ts";

setDefaultTimeout(100_000);

const quote = (text: string): RegExp => new RegExp(RegExp.escape(text));
const message = (sent: string, expected: string): RegExp[] => [
  quote(`rank 0 sent ${sent} with tag 5, rank 2 was to receive ${expected}`),
];

/** What each rank reports. */
const expected: Readonly<Record<Mismatch, readonly RegExp[]>> = {
  "a shorter message": message("float32[7]", "float32[9]"),
  "a longer message": message("float32[9]", "float32[7]"),
  "an empty message": message("float32[0]", "float32[9]"),
  "a large message for a small one": message("float32[300000]", "float32[9]"),
  "a small message for a large one": message("float32[9]", "float32[300000]"),
  "a large message, longer": message("float32[300001]", "float32[300000]"),
  "a message of another dtype": message("float32[9]", "int32[9]"),
};

describeUcc("ucc, messages that do not match", () => {
  test("are an error on every rank, which names two ranks, what one sent and what the other expected", async () => {
    const file = new URL("./fixtures/mismatch.ts", import.meta.url);
    const all = allWell<MismatchEnd[]>(await spawnRanks(3, file, { ...spawn, timeout: "80s" }));
    for (const ends of all) {
      expect(ends.map(({ name }) => String(name))).toEqual(Object.keys(expected));
      for (const { name, error, state } of ends) {
        expect({ name, error: error?.code, state }).toEqual({ name, error: "DESYNC", state: "FAILED" });
        expect(error?.message).toMatch(/rank 2/);
        for (const part of expected[name]) expect(error?.message).toMatch(part);
      }
    }
  });
});
