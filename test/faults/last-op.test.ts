import { expect, setDefaultTimeout, test } from "bun:test";
import { type RankOutcome, spawnRanks, workerRanks } from "bun-c10d/testing";
import { describeGloo } from "../../src/backends/gloo/fixtures/availability.ts";
import { describeMpi, launchWith } from "../../src/backends/mpi/fixtures/availability.ts";
import { describeUcc, spawn as withUcc } from "../../src/backends/ucc/fixtures/availability.ts";
import type { LastOpArgs, LastOpResult, Trouble } from "./last-op.ts";

setDefaultTimeout(60_000);

const file = new URL("./fixtures/last-op-rank.ts", import.meta.url);
const culprit = 1;
const troubles: readonly Trouble[] = ["not calling", "monitored", "looping", "in another op", "sending"];
const modes = ["await", "wait"] as const;
const site = String.raw`\S*last-op-rank\.ts:\d+:\d+`;

/** What the error says of the rank at fault. */
function expected(trouble: Trouble, backend: string, { group, pid }: LastOpResult, isWorker: boolean): RegExp {
  const place = `on group "${group}" \\(${backend}\\)`;
  const time = "[\\d.]+ s";
  const who = `rank ${culprit} \\(pid ${isWorker ? process.pid : pid}\\)`;
  const last = `in no op; the last, broadcast #2 ${place}, ended ${time} ago`;
  const missing = `${who}, which has not called it: `;
  switch (trouble) {
    case "killed":
      return new RegExp(`${who}.*: ${last}; its process has ended`);
    case "ended":
      return new RegExp(`${who}.*: ${last}; its process exited with code \\d+, ${time} ago`);
    case "stopped":
      return new RegExp(`${missing}${last}; its process is stopped`);
    case "in another op":
    case "sending": {
      // Which fails with the group: on fake at the same moment.
      const op = `${trouble === "sending" ? "send #1 to" : "recv #1 from"} rank 0 ${place}`;
      return new RegExp(
        `${missing}in (${op} for ${time}|no op; the last, ${op}, failed ${time} ago), called at ${site}`,
      );
    }
    case "looping":
      return new RegExp(`${missing}${last}${isWorker ? "" : "; its process is running"}`);
    default:
      return new RegExp(missing + last);
  }
}

function check(outcomes: readonly Pick<RankOutcome, "rank" | "reports">[], args: LastOpArgs, isWorker: boolean): void {
  for (const { rank, reports } of outcomes.filter(({ rank }) => rank !== culprit)) {
    const results = reports as readonly LastOpResult[];
    expect(results.map(({ trouble }) => trouble)).toEqual([...args.troubles]);
    for (const result of results) {
      const { trouble, error, late } = result;
      const text = expected(trouble, args.backend, result, isWorker);
      expect(error?.message).toMatch(text);
      if (trouble === "monitored") {
        // Over UCC it is made of messages, and counted apart from collectives.
        const seq = args.backend === "ucc" ? 1 : 3;
        const head = `monitoredBarrier #${seq} on group "${result.group}" (${args.backend}, rank ${rank} of 3): `;
        expect(error?.message).toStartWith(head);
        expect(error?.details).toMatchObject({ op: "monitoredBarrier", seq, rank });
        if (args.mode === "wait") expect(late?.message).toStartWith(`monitoredBarrier #${seq}: waited 350 ms`);
      }
      expect(error?.details?.callSite).toMatch(new RegExp(`^${site}$`));
      if (trouble === "killed" || trouble === "ended") {
        expect(error).toMatchObject({ code: "PEER_LOST", details: { peers: [culprit] } });
        continue;
      }
      // With wait(), the rank that gives up first may be taken for the one at fault: its record says otherwise.
      expect(error?.details?.peers).toEqual([culprit]);
      if (args.mode === "wait" && trouble !== "sending") expect(late?.message).toMatch(text);
      if (args.mode === "wait") continue;
      expect(error?.code).toBe("OP_TIMEOUT");
      expect(error?.message).toMatch(new RegExp(`called at ${site}; it waits for`));
    }
  }
}

describeGloo("the error of an op names the rank that it waits for, and what that one did last: gloo", () => {
  test.concurrent.each(modes)("%s", async (mode) => {
    const args = { backend: "gloo", mode, troubles: [...troubles, "stopped", "killed"], culprit } as const;
    check(await spawnRanks(3, file, { timeout: "55s", args }), args, false);
  });
});

describeUcc("the error of an op names the rank that it waits for, and what that one did last: ucc", () => {
  test.concurrent.each(modes)("%s", async (mode) => {
    const args = { backend: "ucc", mode, troubles: [...troubles, "stopped", "killed"], culprit } as const;
    check(await spawnRanks(3, file, { timeout: "55s", args, ...withUcc }), args, false);
  });
});

describeMpi("the error of an op names the rank that it waits for, and what that one did last: mpi", "openmpi", () => {
  // Killed: mpirun ends all ranks when one of them is.
  test.concurrent.each(modes)("%s", async (mode) => {
    const args = { backend: "mpi", mode, troubles: [...troubles, "stopped"], culprit } as const;
    check(await spawnRanks(3, file, { timeout: "55s", args, ...launchWith("openmpi") }), args, false);
  });
});

// A Worker cannot be stopped alone.
test.concurrent.each(modes)(
  "the error of an op names the rank that it waits for, and what that one did last: fake > %s",
  async (mode) => {
    const args = { backend: "fake", mode, troubles: [...troubles, "ended"], culprit } as const;
    check(await workerRanks(3, file, { timeout: "55s", args }), args, true);
  },
);
