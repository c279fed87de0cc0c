import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { allWell, describeUcc, spawn } from "./fixtures/availability.ts";
import type { Mismatch, MismatchEnd } from "./fixtures/mismatch.ts";

setDefaultTimeout(100_000);

/** What each rank is told, in the words of each: `other` comes from the last rank. */
const called = (usual: string, other: string): RegExp[] => [
  new RegExp(`called ${usual}`),
  new RegExp(`called ${other}`),
];
const of = (name: string, usual: number, other: number): RegExp[] =>
  called(`${name}.* ${usual} bytes`, `${name}.* ${other} bytes`);
const sum = "allReduce\\(SUM\\) of float32, 28 bytes";
const message = (sent: string, expected: string): RegExp[] => [
  new RegExp(`rank 0 sent ${sent} with tag 5 where rank 2 expects ${expected}`),
];

const expected: Readonly<Record<Mismatch, readonly RegExp[]>> = {
  "allReduce, sizes": of("allReduce", 28, 36),
  "allReduce, nothing and something": of("allReduce", 28, 0),
  "allReduce, large and small": of("allReduce", 28, 1_200_000),
  "allReduce, small and large": of("allReduce", 1_200_000, 28),
  "allReduce, dtypes": called(sum, "allReduce\\(SUM\\) of int32, 28 bytes"),
  "allReduce, reduce ops": called(sum, "allReduce\\(MAX\\) of float32, 28 bytes"),
  "allReduce of a list": [/called it with tensors of other sizes/],
  broadcast: of("broadcast", 28, 36),
  "broadcast, roots": called("broadcast with root 0 ", "broadcast with root 1 "),
  reduce: of("reduce", 28, 36),
  allGather: of("allGather", 28, 36),
  allGatherIntoTensor: of("allGatherIntoTensor", 28, 36),
  gather: of("gather", 28, 36),
  scatter: of("scatter", 28, 36),
  reduceScatter: of("reduceScatter", 84, 108),
  reduceScatterTensor: of("reduceScatterTensor", 84, 108),
  allToAll: [/sends (28 bytes where rank \d expects 36|36 bytes where rank \d expects 28)/],
  allToAllSingle: of("allToAllSingle", 84, 108),
  "allToAllSingle, splits": [/sends (28 bytes where rank \d expects 36|36 bytes where rank \d expects 28)/],
  "another op": called(sum, "broadcast with root 0 of float32, 28 bytes"),
  "a barrier": called(sum, "barrier"),
  "a shorter message": message("28 bytes of float32", "36 of float32"),
  "a longer message": message("36 bytes of float32", "28 of float32"),
  "an empty message": message("0 bytes of float32", "36 of float32"),
  "a large message for a small one": message("1200000 bytes of float32", "36 of float32"),
  "a small message for a large one": message("36 bytes of float32", "1200000 of float32"),
  "a large message, longer": message("1200004 bytes of float32", "1200000 of float32"),
  "a message of another dtype": message("36 bytes of float32", "36 of int32"),
};

describeUcc("ucc, calls that do not fit together", () => {
  test("are an error on every rank, which names two of them and what each has called", async () => {
    const file = new URL("./fixtures/mismatch.ts", import.meta.url);
    const all = allWell<MismatchEnd[]>(await spawnRanks(3, file, { ...spawn, timeout: "80s" }));
    for (const ends of all) {
      expect(ends.map(({ name }) => String(name))).toEqual(Object.keys(expected));
      for (const { name, error, state } of ends) {
        expect({ name, error: error?.name, state }).toEqual({ name, error: "DistBackendError", state: "FAILED" });
        expect(error?.message).toMatch(/rank 2/);
        for (const part of expected[name]) expect(error?.message).toMatch(part);
      }
    }
  });
});
