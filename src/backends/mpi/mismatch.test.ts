import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { describeMpi, launchWith } from "./fixtures/availability.ts";
import type { Mismatch, MismatchEnd } from "./fixtures/mismatch.ts";
import { implementations } from "./implementation.ts";

setDefaultTimeout(120_000);

const body = new URL("./fixtures/mismatch.ts", import.meta.url);

const quote = (text: string): RegExp => new RegExp(RegExp.escape(text));
/** What each rank reports: the calls of two ranks. */
const called = (usual: string, other: string): RegExp[] => [quote(`called ${usual}`), quote(`called ${other}`)];
const of = (call: string, usual: number, other: number): RegExp[] =>
  called(call.replace("N", String(usual)), call.replace("N", String(other)));
const sum = "allReduce(float32[7], SUM)";
const parts = /(sends float32\[7\] to .* expects float32\[9\]|sends float32\[9\] to .* expects float32\[7\])/;

const expected: Readonly<Record<Mismatch, readonly RegExp[]>> = {
  "allReduce, sizes": of("allReduce(float32[N], SUM)", 7, 9),
  "allReduce, nothing and something": of("allReduce(float32[N], SUM)", 7, 0),
  "allReduce, large and small": of("allReduce(float32[N], SUM)", 7, 300_000),
  "allReduce, small and large": of("allReduce(float32[N], SUM)", 300_000, 7),
  "allReduce, large and larger": of("allReduce(float32[N], SUM)", 300_000, 300_400),
  "allReduce, dtypes": called(sum, "allReduce(int32[7], SUM)"),
  "allReduce, reduce ops": called(sum, "allReduce(float32[7], MAX)"),
  "allReduce of a list": [/with tensors of other sizes/],
  broadcast: of("broadcast(float32[N], root 0)", 7, 9),
  "broadcast, roots": of("broadcast(float32[7], root N)", 0, 1),
  reduce: of("reduce(float32[N], SUM, root 0)", 7, 9),
  allGather: of("allGather(float32[N])", 7, 9),
  gather: of("gather(float32[N], root 0)", 7, 9),
  scatter: of("scatter(float32[N], root 0)", 7, 9),
  reduceScatter: [/called reduceScatter\(\d tensors of float32/],
  allToAll: [parts],
  "allToAllSingle, splits": [parts],
  "another op": called(sum, "broadcast(float32[7], root 0)"),
  "a barrier": called("allReduce(float32[300000], SUM)", "barrier()"),
  "refused by the last rank alone": [/called gather\(float32\[4\], root \d\)/, /called allReduce\(float32\[4\], SUM\)/],
  "refused by the last rank alone, then the same": [/#1.*#2: rank \d has refused 1 call more than rank \d/],
};

for (const implementation of implementations) {
  describeMpi("mpi, calls that do not match, one thread", implementation, () => {
    // With several threads: test/desync.
    test.each([2, 3])("%d ranks: are an error on every rank, which names two calls", async (n) => {
      const options = { threads: "single" };
      const outcomes = await spawnRanks(n, body, { ...launchWith(implementation), args: { options }, timeout: 90_000 });
      expect(outcomes.map(({ exitCode, error }) => ({ exitCode, error: error?.stack }))).toEqual(
        Array.from({ length: n }, () => ({ exitCode: 0, error: undefined })),
      );
      for (const { value } of outcomes) {
        const { ends, large } = value as { ends: MismatchEnd[]; large: string[] };
        expect(large).toEqual(["INVALID_ARGUMENT", "INVALID_ARGUMENT", String(n)]);
        expect(ends.map(({ name }) => String(name))).toEqual(Object.keys(expected));
        for (const { name, error, state } of ends) {
          expect({ name, error: error?.code, state }).toEqual({ name, error: "DESYNC", state: "FAILED" });
          expect(error?.message).toMatch(new RegExp(`rank ${n - 1}`));
          for (const part of expected[name]) expect(error?.message).toMatch(part);
        }
      }
    });
  });
}
