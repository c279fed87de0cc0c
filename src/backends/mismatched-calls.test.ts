import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks, workerRanks } from "../testing/index.ts";
import { type MismatchEnd, type MismatchedCall, mismatchedCalls } from "./fixtures/mismatched-calls.ts";
import { allWell, describeGloo } from "./gloo/fixtures/availability.ts";

setDefaultTimeout(300_000);

const file = new URL("./fixtures/mismatched-calls.ts", import.meta.url);
const full = process.env.C10D_SWEEP === "full";

/** Ends of all ranks, by rank. */
async function endsOf(backend: "fake" | "gloo", worldSize: number): Promise<readonly MismatchEnd[][]> {
  const args = { backend, full };
  const options = { args, timeout: "280s" };
  if (backend === "gloo") return allWell<MismatchEnd[]>(await spawnRanks(worldSize, file, options));
  const outcomes = await workerRanks(worldSize, file, options);
  return outcomes.map(({ value, error }) => {
    if (error !== undefined) throw new Error(error.stack ?? error.message);
    return value as MismatchEnd[];
  });
}

/** What is wrong with what a rank has been given; empty if nothing. */
function faultsOf(rank: number, { call, odd, elements, way, error }: MismatchEnd): string[] {
  const what = `rank ${rank}: ${call}, odd is ${odd}, ${elements} elements, ${way}`;
  const { name, code, peers, message } = error;
  const ok =
    name === "DistBackendError" &&
    code === "DESYNC" &&
    Array.isArray(peers) &&
    peers.length === 0 &&
    message.includes(`rank ${odd} called `) &&
    / as collective #1(, rank \d called |: rank \d has refused )/.test(message);
  return ok ? [] : [`${what}: ${name} ${String(code)} ${JSON.stringify(peers)}: ${message}`];
}

/** The part of the message that names the two calls. */
const textOf = ({ error }: MismatchEnd) => /rank \d+ called .*/.exec(error.message)?.[0];

describeGloo("calls that differ between ranks, gloo and fake", () => {
  test.each([2, 3])("are DESYNC on all of %d ranks, in the same words", async (worldSize) => {
    const gloo = await endsOf("gloo", worldSize);
    const fake = await endsOf("fake", worldSize);
    const cases = Object.keys(mismatchedCalls).length * worldSize * (full ? 4 : 1);
    for (const ends of [gloo, fake]) {
      expect(ends.map(({ length }) => length)).toEqual(Array.from({ length: worldSize }, () => cases));
      expect(ends.flatMap((own, rank) => own.flatMap((end) => faultsOf(rank, end)))).toEqual([]);
    }
    // Of three ranks, it is chance which two are named.
    if (worldSize === 2) expect(gloo[0]?.map(textOf)).toEqual(fake[0]?.map(textOf));
  });

  test("the words of some", async () => {
    const ends = (await endsOf("fake", 2))[0] ?? [];
    const textWhereOneIsOdd = (call: MismatchedCall) => {
      const end = ends.find((each) => each.call === call && each.odd === 1);
      return end && textOf(end)?.replaceAll(/\[\d+\]/g, "[n]");
    };
    expect(textWhereOneIsOdd("allReduce, reduce op")).toStartWith(
      "rank 0 called allReduce(float32[n], SUM) as collective #1, rank 1 called allReduce(float32[n], MAX). All ranks",
    );
    expect(textWhereOneIsOdd("scatter, root")).toStartWith(
      "rank 0 called scatter(float32[n], root 0) as collective #1, rank 1 called scatter(float32[n], root 1).",
    );
    expect(textWhereOneIsOdd("another barrier")).toStartWith(
      "rank 0 called barrier() as collective #1, rank 1 called monitoredBarrier().",
    );
    expect(textWhereOneIsOdd("a call refused on one rank, then the same")).toStartWith(
      "rank 0 called allReduce(float32[n], SUM) as collective #1, rank 1 called allReduce(float32[n], SUM) as " +
        "collective #2: rank 1 has refused 1 call more than rank 0. All ranks",
    );
    expect(textWhereOneIsOdd("two calls refused on one rank, one of them in a batch")).toContain(
      "as collective #3: rank 1 has refused 2 calls more than rank 0. All ranks",
    );
    expect(textWhereOneIsOdd("allReduce of a list, sizes")).toContain("with tensors of other sizes");
  });
});
