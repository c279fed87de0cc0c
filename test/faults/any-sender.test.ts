import { expect, setDefaultTimeout, test } from "bun:test";
import { type ReportedError, type SpawnOptions, spawnRanks, workerRanks } from "bun-c10d/testing";
import { describeGloo } from "../../src/backends/gloo/fixtures/availability.ts";
import { describeMpi, launchWith } from "../../src/backends/mpi/fixtures/availability.ts";

setDefaultTimeout(60_000);

export interface AnySenderArgs {
  readonly backend: string;
  readonly mode: "await" | "wait";
  readonly isObject: boolean;
}

const file = new URL("./fixtures/any-sender-rank.ts", import.meta.url);
const cases = [
  ["await", false],
  ["wait", false],
  ["await", true],
] as const;

function check(error: ReportedError | undefined, { backend, isObject }: AnySenderArgs): void {
  if (error === undefined) throw new Error("rank 0 has received something");
  const { code, message, details } = error;
  expect({ code, peers: details?.peers }).toEqual({ code: "OP_TIMEOUT", peers: [] });
  expect(message).toStartWith(`${isObject ? "recvObject" : "recv"} #`);
  const time = "[\\d.]+ s";
  const op = (name: string, group: number) => `${name} #\\d+ on group "${group}" \\(${backend}\\)`;
  expect(message).toMatch(
    new RegExp(
      "; it waits for a message from any rank:\n" +
        `  rank 1 \\(pid \\d+\\): in no op; the last, ${op("barrier", 0)}, ended ${time} ago.*\n` +
        `  rank 2 \\(pid \\d+\\): in ${op("allReduce", 1)} for ${time}, called at \\S*any-sender-rank\\.ts:\\d+:\\d+(; its process is running)?$`,
    ),
  );
}

function testCases(backend: string, options: SpawnOptions): void {
  test.concurrent.each(cases)("%s, of an object: %p", async (mode, isObject) => {
    const args: AnySenderArgs = { backend, mode, isObject };
    // The others end as they may: mpirun ends all when rank 0 leaves after the failure.
    const [outcome] = await spawnRanks(3, file, { ...options, args });
    check(outcome?.value as ReportedError | undefined, args);
  });
}

describeGloo("the error of a recv from any rank says what each of them is doing: gloo", () => testCases("gloo", {}));

describeMpi("the error of a recv from any rank says what each of them is doing: mpi", "openmpi", () =>
  testCases("mpi", launchWith("openmpi")),
);

test.concurrent.each(cases)(
  "the error of a recv from any rank says what each of them is doing: fake > %s, %p",
  async (mode, isObject) => {
    const args: AnySenderArgs = { backend: "fake", mode, isObject };
    const [outcome] = await workerRanks(3, file, { args });
    check(outcome?.value as ReportedError | undefined, args);
  },
);
