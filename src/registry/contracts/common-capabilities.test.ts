import { expect, test } from "bun:test";
import type { Capabilities } from "./capabilities.ts";
import { commonCapabilities } from "./common-capabilities.ts";

const whole: Capabilities = {
  ops: { allReduce: ["float32", "int8"], broadcast: ["bool"], send: ["float32"], barrier: [] },
  reduceOps: { float32: ["SUM", "AVG"], int8: ["SUM"], bool: [] },
  anySource: true,
  sequenceNumbers: true,
};

test("the common table of one backend, or of several equal ones, is its own", () => {
  expect(commonCapabilities([whole])).toBe(whole);
  expect(commonCapabilities([whole, whole])).toBe(whole);
});

test("what several have in common, in any order", () => {
  const part: Capabilities = {
    ops: { allReduce: ["int8", "float32", "float64"], broadcast: ["int8"], recv: ["float32"], barrier: [] },
    reduceOps: { float32: ["AVG", "MAX"], int8: ["MAX"], bool: [] },
    anySource: true,
    abort: true,
    messagesInOrder: true,
  };
  for (const tables of [
    [whole, part],
    [part, whole],
  ]) {
    const common = commonCapabilities(tables);
    expect(new Set(common.ops.allReduce)).toEqual(new Set(["float32", "int8"]));
    // No dtype of broadcast is in both; an op without tensors stays.
    expect(Object.keys(common.ops).sort()).toEqual(["allReduce", "barrier"]);
    expect(common.reduceOps).toEqual({ float32: ["AVG"], bool: [] });
    expect(common).toMatchObject({ anySource: true, sequenceNumbers: false, abort: false });
    // One that orders messages is enough for ranks to wait for each other.
    expect(common.messagesInOrder).toBe(true);
  }
});

test("an empty table leaves nothing", () => {
  const common = commonCapabilities([whole, { ops: {}, reduceOps: {} }]);
  expect([common.ops, common.reduceOps]).toEqual([{}, {}]);
});
