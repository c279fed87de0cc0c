import { describe, expect, test } from "bun:test";
import fake from "../../backends/fake/plugin.ts";
import type { BackendPlugin } from "../../registry/index.ts";
import crashing from "../fixtures/crashing-backend.ts";
import { sweepFromEnvironment, testBackend } from "./backend-suite.ts";
import { suiteCases } from "./cases/cases.ts";
import { runSuite } from "./run-suite.ts";
import { inapplicable } from "./suite-case.ts";

const sweep = { full: false, sizes: [0, 3], large: 5, seed: 0 };
const order = (cases: readonly string[]) => ({ cases, sweep, canBlock: false, options: {} });

describe("the conformance suite", () => {
  test("has a unique name for each case", () => {
    const names = suiteCases.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(names.every((name) => name.split(" > ").length === 2)).toBe(true);
  });

  test("skips cases that do not apply to a backend, and says why", () => {
    const capabilities = { ops: { barrier: [] }, reduceOps: {} };
    const reasons = suiteCases.map((each) =>
      inapplicable(each, { capabilities, worldSize: 1, waitCannotBlock: "one thread" }),
    );
    expect(reasons).toContain("does not claim allReduce, and must reject it");
    expect(reasons).toContain("needs 2 ranks");
    const terms = { capabilities: { ...capabilities, ops: fake.capabilities.ops }, worldSize: 2 };
    const others = suiteCases.map((each) => inapplicable(each, { ...terms, waitCannotBlock: "one thread" }));
    expect(others).toContain("wait() cannot block: one thread");
    expect(others).toContain("does not claim anySource");
    expect(others).toContain(undefined);
    expect(others).not.toContain("messages keep their order among collectives");
    const inOrder = { ...terms, capabilities: { ...terms.capabilities, messagesInOrder: true } };
    const leftOut = suiteCases.filter((each) => {
      return (
        inapplicable(each, { ...inOrder, waitCannotBlock: undefined }) === "messages keep their order among collectives"
      );
    });
    expect(leftOut.map(({ name }) => name)).toEqual(["overlap > messages pass between collectives"]);
  });

  test("refuses to skip what does not exist", () => {
    const skip = [{ reason: "no reason", tests: ["allReduce", "allRedcue"] }];
    expect(() => testBackend(fake, { skip })).toThrow('skip names "allRedcue"');
  });

  test.each<[unknown, unknown, string]>([
    [undefined, {}, "testBackend: a plugin is an object with name, create() and so on, got undefined"],
    [fake, null, "testBackend: options must be an object, got null"],
    [
      fake,
      { spwan: false },
      "testBackend: unknown option spwan (known are worldSizes, skip, spawn, waitCannotBlock, options, memory)",
    ],
    [fake, { worldSizes: [] }, "testBackend: worldSizes must be a non-empty list of positive integers"],
    [fake, { worldSizes: [0] }, "testBackend: worldSizes must be a non-empty list"],
    [fake, { worldSizes: 3 }, "testBackend: worldSizes must be a non-empty list"],
    [fake, { skip: [{ reason: "slow", tests: "barrier" }] }, "testBackend: skip must be a list of { reason, tests }"],
  ])("refuses invalid arguments, rather than test nothing or something else: $2", (plugin, options, message) => {
    expect(() => testBackend(plugin as BackendPlugin, options as object)).toThrow(message);
  });

  test.each([
    ["C10D_SWEEP", "ful", 'C10D_SWEEP must be one of smoke, full, got "ful"'],
    ["C10D_SEED", "today", 'C10D_SEED must be an integer of at least 0, got "today"'],
  ])("refuses a %s that it does not know", (name, value, message) => {
    const before = process.env[name];
    process.env[name] = value;
    try {
      expect(sweepFromEnvironment).toThrow(message);
    } finally {
      if (before === undefined) delete process.env[name];
      else process.env[name] = before;
    }
  });

  test("finds groups that do not close, and groups that fail to close", async () => {
    const cases = ["allReduce > lists of tensors"];
    const closing = async (close: () => Promise<void>): Promise<readonly string[]> => {
      const plugin: BackendPlugin = {
        ...fake,
        async create(context) {
          const backend = await fake.create(context);
          if (context.groupName !== "0") backend.close = close;
          return backend;
        },
      };
      const [result] = await runSuite({ plugin, worldSize: 1, order: order(cases), spawn: false });
      return result?.failures ?? ["nothing was run"];
    };
    expect(await closing(() => Promise.resolve())).toEqual([]);
    expect(await Promise.all([closing(() => Bun.sleep(6_000)), closing(() => Promise.reject("stuck"))])).toEqual([
      ["rank 0: close() of the case's group had not ended after 5000 ms"],
      [`rank 0: close() of the case's group failed: group "1": closing backend "fake" failed: stuck`],
    ]);
  }, 30_000);

  test("finds ranks that ran all cases and do not end cleanly", async () => {
    const cases = ["allReduce > lists of tensors", "barrier > nobody leaves before the last has come"];
    const plugin: BackendPlugin = {
      ...fake,
      async create(context) {
        const backend = await fake.create(context);
        if (context.groupName === "0") backend.close = () => Promise.reject(new Error("stuck"));
        return backend;
      },
    };
    const results = await runSuite({ plugin, worldSize: 1, order: order(cases), spawn: false });
    expect(results.map(({ failures }) => failures)).toEqual([
      [],
      [expect.stringMatching(/^rank 0 did not end cleanly after all cases: .*stuck/)],
    ]);
  });

  test("reports where a backend has a bug", async () => {
    const plugin: BackendPlugin = {
      ...fake,
      async create(context) {
        const backend = await fake.create(context);
        const submit = backend.submit.bind(backend);
        backend.submit = function reduceList(calls) {
          if (calls.some(({ op }) => op === "allReduceCoalesced")) throw new TypeError("no list");
          return submit(calls);
        };
        return backend;
      },
    };
    const cases = ["allReduce > lists of tensors"];
    const [result] = await runSuite({ plugin, worldSize: 1, order: order(cases), spawn: false });
    expect(result?.failures.join()).toMatch(
      /^rank 0: group "1": submit\(\) of backend "fake" for allReduce failed: no list\nTypeError: no list\n +at reduceList \(.*backend-suite\.test\.ts:\d+/,
    );
  });

  test("says what to do about a plugin that other processes cannot load", () => {
    const { module: _, ...plugin } = fake;
    const run = runSuite({ plugin, worldSize: 2, order: order([]), spawn: {} });
    expect(run).rejects.toThrow("add `module: import.meta.url` to the plugin");
  });

  test("reports when ranks would load another plugin", async () => {
    const cases = ["Work > tells what it was and how it ended"];
    const [result] = await runSuite({
      plugin: { ...crashing, name: "changed" },
      worldSize: 1,
      order: order(cases),
      spawn: {},
    });
    expect(result?.failures.join()).toMatch(
      /ranks load backend "changed" from \S+, but it is not the default export there/,
    );
  }, 30_000);

  test("names the case in which a rank died, and keeps what ranks reported before", async () => {
    const cases = ["Work > tells what it was and how it ended", "barrier > nobody leaves before the last has come"];
    const results = await runSuite({ plugin: crashing, worldSize: 2, order: order(cases), spawn: {} });
    const [first, second] = results.map(({ failures }) => failures.join("\n"));
    // A rank without peers has no sums of others.
    expect(first).toMatch(/^rank 0: op 3, allReduce SUM of \w+\[111\]: element 0 of 111 is /);
    expect(second).toContain("rank 1 did not finish: it stopped in this case; it ended with exit code 3");
    expect(second).toContain("rank 0 did not finish: it stopped in this case; it was stopped because rank 1 had ended");
  }, 30_000);
});
