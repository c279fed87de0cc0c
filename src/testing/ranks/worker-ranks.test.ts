import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { describeGloo } from "../../backends/gloo/fixtures/availability.ts";
import { InvalidArgumentError } from "../../errors/index.ts";
import type { LateGroup } from "../fixtures/late-group.ts";
import type { SumsArgs } from "../fixtures/sums.ts";
import type { Aftermath, Trouble, TroubleArgs } from "../fixtures/worker-trouble.ts";
import type { WaitsArgs } from "../fixtures/worker-waits.ts";
import { workerRanks } from "./worker-ranks.ts";

setDefaultTimeout(60_000);

const fixture = (name: string): URL => new URL(`../fixtures/${name}.ts`, import.meta.url);

/** Resolves when the ranks have counted this far. */
async function countedTo(count: number, counter: SharedArrayBuffer): Promise<void> {
  while (Atomics.load(new Int32Array(counter), 0) < count) await Bun.sleep(10);
}

describe("workerRanks", () => {
  test.each([true, false])("runs ranks that exchange data; blocking %p", async (blocking) => {
    const args: SumsArgs = { backend: "fake", ops: 50, timeoutMs: 5_000, blocking };
    const outcomes = await workerRanks(3, fixture("sums"), { args });
    const expected = Array.from({ length: 50 }, (_, i) => 30 * i + 3);
    for (const [rank, outcome] of outcomes.entries()) {
      expect(outcome).toMatchObject({ rank, exitCode: 0, error: undefined, hung: false, hang: undefined });
      expect(outcome.value).toMatchObject({ sums: expected, state: "OPEN" });
    }
  });

  test("wait() blocks up to its limit, and takes turns with await", async () => {
    const args: WaitsArgs = { lateMs: 300, limitMs: 50 };
    const [early, late] = await workerRanks(2, fixture("worker-waits"), { args });
    expect(early?.value).toEqual({ code: "WAIT_TIMEOUT", completed: false, value: 6, from: undefined });
    expect(late?.value).toEqual({ code: undefined, completed: true, value: 6, from: 0 });
  });

  test("gives each rank an environment of its own", async () => {
    const args = ["RANK", "WORLD_SIZE", "EXTRA", "C10D_BACKEND", "HOME"];
    const outcomes = await workerRanks(2, fixture("environment"), { args, env: { EXTRA: "7", HOME: undefined } });
    expect(outcomes.map(({ value }) => value)).toEqual([
      ["0", "2", "7", "fake", undefined],
      ["1", "2", "7", "fake", undefined],
    ]);
    expect(process.env.RANK).toBeUndefined();
  });

  const troubles: Readonly<Record<Trouble, { readonly text: RegExp; readonly exitCode: number }>> = {
    throws: { text: /rank 2 has ended before it called this op/, exitCode: 1 },
    exits: { text: /rank 2 has ended before it called this op/, exitCode: 5 },
    dies: { text: /rank 2 has ended before it called this op/, exitCode: 1 },
    closes: { text: /rank 2 closed the group before it called this op/, exitCode: 0 },
    "is silent": { text: /timed out after 4000 ms; ranks? ([01], )?2 did not arrive/, exitCode: 1 },
    "is busy": { text: /timed out after 4000 ms; ranks? ([01], )?2 did not arrive/, exitCode: 1 },
  };
  async function checkTrouble(trouble: Trouble, blocking: boolean, backend = "fake"): Promise<void> {
    const { exitCode } = troubles[trouble];
    // With wait() a rank cannot ask the others, one of which may have given up earlier.
    // With `await` it names the culprit, even if it saw the connection to another rank break first.
    const agreed = /rank 2 closed its connection|rank [01] closed its connection.*the cause is the loss of rank 2/;
    const seen = blocking ? /rank [012] closed its connection/ : agreed;
    const text = backend === "fake" ? troubles[trouble].text : seen;
    const hangs = trouble === "is silent" || trouble === "is busy";
    const controller = new AbortController();
    const { signal } = controller;
    const args: TroubleArgs = { trouble, blocking, done: new SharedArrayBuffer(4) };
    const env = { C10D_BACKEND: backend };
    const running = workerRanks(3, fixture("worker-trouble"), { args, signal, env, timeout: 50_000 });
    if (hangs) {
      await countedTo(2, args.done);
      await Bun.sleep(2_000); // so that their results have arrived
      controller.abort();
    }
    const outcomes = await running;
    const [first, second, last] = outcomes;
    for (const outcome of [first, second]) {
      expect(outcome).toMatchObject({ exitCode: 0, error: undefined, hung: false });
      const aftermath = outcome?.value as Aftermath;
      // A late rank is notified of the failure of the other one.
      expect(["PEER_LOST", "OP_TIMEOUT", "GROUP_FAILED"]).toContain(aftermath.code ?? "none");
      expect(aftermath.message).toMatch(text);
      expect(aftermath.afterMs).toBeLessThan(15_000);
      expect(aftermath.state).toBe("FAILED");
    }
    expect(last?.exitCode).toBe(exitCode);
    expect(last?.hung).toBe(hangs);
    if (hangs) {
      expect(last?.hang?.text).toMatch(
        /^rank 2 was killed after [\d.]+ s: in no op; the last, allReduce #1 on group "0" \(fake\), ended [\d.]+ s earlier$/,
      );
    }
    if (trouble === "throws") expect(last?.error).toMatchObject({ name: "RangeError", message: "too warm" });
    if (trouble === "exits")
      expect(last?.error?.message).toContain("the Worker of rank 2 ended before its function did");
    if (trouble === "dies") expect(last?.error?.message).toContain("out of nowhere");
  }

  const ending = (["throws", "exits", "dies", "closes"] as const).flatMap((name) => [
    [name, true] as const,
    [name, false] as const,
  ]);
  test.each(ending)("a rank that %s makes the others fail; blocking %p", (trouble, blocking) =>
    checkTrouble(trouble, blocking),
  );

  test("ranks that arrive after another one gave up the group get an error that says so", async () => {
    const [early, ...late] = await workerRanks(3, fixture("late-group"));
    expect(early?.value).toMatchObject({ code: "CONNECT_TIMEOUT", peers: [1, 2] });
    for (const { value } of late) {
      expect(value).toMatchObject({ code: "CONNECT_TIMEOUT", peers: undefined });
      expect((value as LateGroup).message).toContain("its ranks met without this one, or gave up");
    }
  });

  describeGloo("workerRanks over gloo", () => {
    test.each(ending)("a rank that %s makes the others fail; blocking %p", (trouble, blocking) =>
      checkTrouble(trouble, blocking, "gloo"),
    );

    test("wait() keeps its limit, though native calls are shorter", async () => {
      const args: WaitsArgs = { lateMs: 1_500, limitMs: 350 };
      const [early, late] = await workerRanks(2, fixture("worker-waits"), { args, env: { C10D_BACKEND: "gloo" } });
      expect(early?.value).toEqual({ code: "WAIT_TIMEOUT", completed: false, value: 6, from: undefined });
      expect(late?.value).toMatchObject({ code: undefined, value: 6, from: 0 });
      expect(Number(early?.reports[0])).toBeGreaterThanOrEqual(349);
      expect(Number(early?.reports[0])).toBeLessThan(1_300);
    });

    test("a rank that hangs in an op is terminated", async () => {
      const controller = new AbortController();
      const args = { ready: new SharedArrayBuffer(4) };
      const { signal } = controller;
      const env = { C10D_BACKEND: "gloo" };
      const running = workerRanks(2, fixture("half"), { args, signal, env, timeout: 50_000 });
      await countedTo(2, args.ready);
      await Bun.sleep(300);
      controller.abort();
      const outcomes = await running;
      expect(outcomes.map(({ hung }) => hung)).toEqual([true, true]);
      expect(outcomes[0]?.hang?.text).toMatch(/in allReduce #1 on group "0" \(gloo\) for/);
    });
  });

  const hanging = (["is silent", "is busy"] as const).flatMap((name) => [
    [name, true] as const,
    [name, false] as const,
  ]);
  test.concurrent.each(hanging)("a rank that %s makes the others fail; blocking %p", (trouble, blocking) =>
    checkTrouble(trouble, blocking),
  );

  test("a rank that hangs in an op is terminated, and the op is named", async () => {
    const controller = new AbortController();
    const args = { ready: new SharedArrayBuffer(4) };
    const running = workerRanks(2, fixture("half"), { args, signal: controller.signal, timeout: 50_000 });
    await countedTo(2, args.ready);
    await Bun.sleep(300);
    controller.abort();
    const outcomes = await running;
    expect(outcomes[0]).toMatchObject({ hung: true, exitCode: 1, hang: { ops: [{ op: "allReduce", seq: 1 }] } });
    expect(outcomes[0]?.hang?.text).toMatch(/^rank 0 was killed after .* s: in allReduce #1 on group "0" \(fake\) for/);
    expect(outcomes[1]).toMatchObject({ hung: true, hang: { ops: [] } });
  });

  test("stops the others when one fails, if asked to", async () => {
    const args: TroubleArgs = { trouble: "throws", blocking: true, done: new SharedArrayBuffer(4) };
    const outcomes = await workerRanks(2, fixture("worker-trouble"), { args, failFast: true });
    expect(outcomes[1]?.error?.message).toBe("too warm");
    expect(outcomes[0]?.durationMs).toBeLessThan(15_000);
  });

  test("refuses arguments that cannot be copied, and reports a value that cannot", async () => {
    const refused = workerRanks(1, fixture("awkward"), { args: () => 1 });
    expect(refused).rejects.toThrow("workerRanks: args cannot be copied to the ranks");
    const [only] = await workerRanks(1, fixture("awkward"), { args: "a function" });
    expect(only?.error?.message).toStartWith("rank 0: what its function returned cannot be copied");
  });

  test("reports a file that does not load, and refuses invalid numbers of ranks", async () => {
    const [only] = await workerRanks(1, fixture("no-such-file"));
    expect(only).toMatchObject({ exitCode: 1, hung: false });
    expect(only?.error?.message).toContain("no-such-file");
    expect(workerRanks(0, fixture("sums"))).rejects.toThrow(InvalidArgumentError);
  });

  test("refuses an argument that does not name a file", async () => {
    const refused = workerRanks(2, (() => 1) as never);
    await expect(refused).rejects.toThrow("got a function; localRanks() runs a function as ranks");
    await expect(workerRanks(2, undefined as never)).rejects.toThrow(InvalidArgumentError);
  });
});
