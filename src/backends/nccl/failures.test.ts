import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnRanks } from "../../testing/index.ts";
import { describeEmulator, emulatorEnv } from "./fixtures/emulator.ts";
import type { FailuresArgs } from "./fixtures/failures.ts";

setDefaultTimeout(60_000);

interface Outcome {
  readonly state: string;
  readonly code?: string;
  readonly peers?: readonly number[];
  readonly message?: string;
  readonly tookMs?: number;
  readonly blocked?: string;
}

async function outcomes(args: FailuresArgs): Promise<readonly [Outcome, Outcome, Outcome]> {
  const ranks = await spawnRanks(3, new URL("./fixtures/failures.ts", import.meta.url), { args, env: emulatorEnv() });
  for (const { error, exitCode } of ranks) {
    expect({ error: error?.stack, exitCode }).toEqual({ error: undefined, exitCode: 0 });
  }
  return ranks.map(({ value }) => value) as [Outcome, Outcome, Outcome];
}

describeEmulator("failures of nccl, on the emulators", () => {
  test.each([true, false])("a rank that does not come is named when the op times out: bound %p", async (isBound) => {
    const [first, second] = await outcomes({ isBound, kind: "missing" });
    for (const { code, state, peers, message, tookMs } of [first, second]) {
      expect({ code, state, peers }).toEqual({ code: "OP_TIMEOUT", state: "FAILED", peers: [2] });
      expect(message).toContain("rank 2");
      expect(tookMs).toBeGreaterThan(1_000);
      expect(tookMs).toBeLessThan(15_000);
    }
  });

  test("a rank that sends no message is named by its rank in the group", async () => {
    const [{ code, peers, message }] = await outcomes({ isBound: false, kind: "missing message" });
    expect({ code, peers }).toEqual({ code: "OP_TIMEOUT", peers: [2] });
    expect(message).toContain("for messages between ranks 0 and 2,");
  });

  test.each([true, false])("a rank that aborts ends the ops of the others: bound %p", async (isBound) => {
    const [first, second] = await outcomes({ isBound, kind: "aborts" });
    for (const { code, state, message, tookMs } of [first, second]) {
      expect(state).toBe("FAILED");
      expect(["ABORTED", "PEER_LOST", "BACKEND_ERROR"]).toContain(code as string);
      expect(message).toContain("rank 2");
      expect(tookMs).toBeLessThan(12_000);
    }
  });

  test("wait() on an op whose communicator is being made does not block forever", async () => {
    const [first, second] = await outcomes({ isBound: false, kind: "blocked wait" });
    expect([first.blocked, second.blocked]).toEqual(["WAIT_WOULD_DEADLOCK", "WAIT_WOULD_DEADLOCK"]);
  });
});
