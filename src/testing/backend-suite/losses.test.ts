import { describe, expect, setDefaultTimeout, test } from "bun:test";
import fake from "../../backends/fake/plugin.ts";
import type { BackendPlugin } from "../../registry/index.ts";
import plugins from "../fixtures/losing-backends.ts";
import { type LossCase, lossCases, sampledLosses, whyNoLoss } from "./losses.ts";
import { runLoss } from "./run-loss.ts";

setDefaultTimeout(60_000);

const caseOf = (name: string): LossCase => {
  const found = lossCases.find((each) => each.name === `losses > ${name}`);
  if (found === undefined) throw new Error(`no case is called ${name}`);
  return found;
};
const pluginOf = (name: string): BackendPlugin => plugins.find((each) => each.name === name) ?? fake;
const killed = caseOf("a rank is killed in a collective");

const failuresOf = async (plugin: BackendPlugin, lost: LossCase, worldSize = 2): Promise<string> =>
  (await runLoss({ plugin, worldSize, lost, spawn: "workers" })).failures.join("\n");

describe("a backend that is wrong when a rank is lost", () => {
  const cases: readonly [string, string, RegExp][] = [
    [
      "hangs",
      killed.name,
      /^rank 0: the collective in which rank 1 was lost was not ended by the backend, but by the process group: barrier #2/,
    ],
    [
      "hangs",
      "a rank is killed in a collective, and the others wait()",
      /was not ended by the backend, but by the process group/,
    ],
    [
      "hangs",
      "a rank is stopped in a message",
      /^rank 1: the message in which rank 0 was lost was not ended by the backend/,
    ],
    [
      "hangs-for-good",
      killed.name,
      /^rank 0: the collective in which rank 1 was lost should have failed, but was still pending after 4200 ms/,
    ],
    [
      "blames",
      killed.name,
      /failed with DistNetworkError \(PEER_LOST\): rank 0 is lost, whose details.peers are \[0\]/,
    ],
    [
      "lies",
      killed.name,
      /failed with DistBackendError \(OOPS\): something is wrong, not with PEER_LOST or OP_TIMEOUT/,
    ],
    ["stays-open", killed.name, /^rank 0: the group is OPEN after rank 1 was lost/],
    ["does-not-close", killed.name, /^rank 0: close\(\) of the failed group had not ended after 5000 ms/],
  ];
  test.concurrent.each(cases)("%s: %s", async (name, lost, expected) => {
    expect(await failuresOf(pluginOf(name), caseOf(lost.replace("losses > ", "")))).toMatch(expected);
  });

  test.concurrent("blames, in a group of three: no rank names the lost rank", async () => {
    const lost = caseOf("a rank is killed in a collective");
    expect(await failuresOf(pluginOf("blames"), lost, 3)).toBe(
      "none of the remaining ranks has rank 2 in the details.peers of its error",
    );
  });

  test.concurrent("the fake backend has none of these faults", async () => {
    const result = await runLoss({ plugin: fake, worldSize: 3, lost: killed, spawn: "workers" });
    expect([result.name, result.failures, result.checks > 15]).toEqual([killed.name, [], true]);
  });

  test.concurrent("a survivor that hangs is named with the op that it is in", async () => {
    const blocking = caseOf("a rank is stopped in a collective, and the others wait()");
    const run = { plugin: pluginOf("hangs-for-good"), worldSize: 2, spawn: "workers", limitMs: 12_000 } as const;
    const { failures } = await runLoss({ ...run, lost: blocking });
    expect(failures).toEqual([
      expect.stringMatching(/^rank 1 did not report after the loss of rank 0: .* in barrier on /),
    ]);
  });
});

describe("which cases apply", () => {
  const { capabilities } = fake;
  const terms = { capabilities, worldSize: 2, waitCannotBlock: undefined, spawn: {}, isLoadable: true } as const;

  test("all, with ranks in processes", () => {
    expect(lossCases.map((each) => whyNoLoss(each, terms))).toEqual(lossCases.map(() => undefined));
    expect(new Set(lossCases.map(({ name }) => name)).size).toBe(8);
  });

  test.each([
    [{ worldSize: 1 }, "needs 2 ranks", 8],
    [{ spawn: false }, "the ranks share a thread, so that none can be lost alone", 8],
    [{ isLoadable: false }, "its plugin has no module, so that no rank can run in a process of its own", 8],
    [{ capabilities: { ops: { barrier: [] }, reduceOps: {} } }, "does not claim recv, and must reject it", 4],
    [{ waitCannotBlock: "promises" }, "wait() cannot block: promises", 4],
    [{ spawn: { launcher: ["mpirun", "--oversubscribe"] } }, "mpirun ends all ranks when one of them is killed", 4],
  ] as const)("but for %o: %s", (over, reason, count) => {
    const reasons = lossCases.map((each) => whyNoLoss(each, { ...terms, ...over }));
    expect(reasons.filter((each) => each === reason).length).toBe(count);
    expect(new Set(reasons)).toEqual(new Set(count === 8 ? [reason] : [undefined, reason]));
  });

  test("a smoke sweep has one in which a rank is killed and one in which it is stopped", () => {
    expect(sampledLosses({}).map(({ fault, op }) => `${fault} ${op}`)).toEqual(["kill collective", "stop message"]);
    expect(sampledLosses("workers")).toEqual([killed]);
  });
});
