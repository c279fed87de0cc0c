import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { allWell, describeUcc, spawn } from "./fixtures/availability.ts";
import type { Mismatch, MismatchEnd } from "./fixtures/mismatch.ts";

setDefaultTimeout(100_000);

const quote = (text: string): RegExp => new RegExp(RegExp.escape(text));
/** What each rank reports: the calls of two ranks. */
const called = (usual: string, other: string): RegExp[] => [quote(`called ${usual}`), quote(`called ${other}`)];
const of = (call: string, usual: number, other: number): RegExp[] =>
  called(call.replace("N", String(usual)), call.replace("N", String(other)));
const sum = "allReduce(float32[7], SUM)";
const parts = /(sends float32\[7\] to .* expects float32\[9\]|sends float32\[9\] to .* expects float32\[7\])/;
const message = (sent: string, expected: string): RegExp[] => [
  quote(`rank 0 sent ${sent} with tag 5, rank 2 was to receive ${expected}`),
];

const expected: Readonly<Record<Mismatch, readonly RegExp[]>> = {
  "allReduce, sizes": of("allReduce(float32[N], SUM)", 7, 9),
  "allReduce, nothing and something": of("allReduce(float32[N], SUM)", 7, 0),
  "allReduce, large and small": of("allReduce(float32[N], SUM)", 7, 300_000),
  "allReduce, small and large": of("allReduce(float32[N], SUM)", 300_000, 7),
  "allReduce, dtypes": called(sum, "allReduce(int32[7], SUM)"),
  "allReduce, reduce ops": called(sum, "allReduce(float32[7], MAX)"),
  "allReduce of a list": [/with tensors of other sizes/],
  broadcast: of("broadcast(float32[N], root 0)", 7, 9),
  "broadcast, roots": of("broadcast(float32[7], root N)", 0, 1),
  reduce: of("reduce(float32[N], SUM, root 0)", 7, 9),
  allGather: of("allGather(float32[N])", 7, 9),
  allGatherIntoTensor: of("allGatherIntoTensor(float32[N])", 7, 9),
  gather: of("gather(float32[N], root 0)", 7, 9),
  scatter: of("scatter(float32[N], root 0)", 7, 9),
  reduceScatter: of("reduceScatter(3 tensors of float32, N elements, SUM)", 21, 27),
  reduceScatterTensor: of("reduceScatterTensor(float32[N], SUM)", 21, 27),
  allToAll: [parts],
  allToAllSingle: [parts],
  "allToAllSingle, splits": [parts],
  "another op": called(sum, "broadcast(float32[7], root 0)"),
  "a barrier": called(sum, "barrier()"),
  "a shorter message": message("float32[7]", "float32[9]"),
  "a longer message": message("float32[9]", "float32[7]"),
  "an empty message": message("float32[0]", "float32[9]"),
  "a large message for a small one": message("float32[300000]", "float32[9]"),
  "a small message for a large one": message("float32[9]", "float32[300000]"),
  "a large message, longer": message("float32[300001]", "float32[300000]"),
  "a message of another dtype": message("float32[9]", "int32[9]"),
  "refused by the last rank alone, then the same": [/#1.*#2: rank \d has refused 1 call more than rank \d/],
};

describeUcc("ucc, calls that do not fit together", () => {
  test("are an error on every rank, which names two of them and what each has called", async () => {
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
