import { describe, expect, test } from "bun:test";
import { DistBackendError, InvalidArgumentError } from "../errors/index.ts";
import { failureOf } from "../work/index.ts";
import { callOf, fakeSubmit } from "./fixtures/fake-group.ts";
import { roundRobin } from "./round-robin.ts";

function three() {
  const lanes = [fakeSubmit(), fakeSubmit(), fakeSubmit()];
  return { lanes, submit: roundRobin(lanes.map(({ submit }) => submit)), ops: () => lanes.map((lane) => lane.ops()) };
}

describe("roundRobin", () => {
  test("one turn for each collective, refused ones included; none for messages", () => {
    const { submit, ops } = three();
    for (const op of ["allReduce", "send", "refused", "recv", "broadcast", "gather", "send", "reduce"] as const) {
      expect(submit([callOf(op)])).toHaveLength(1);
    }
    expect(ops()).toEqual([["allReduce", "send", "recv", "gather", "send"], ["refused", "reduce"], ["broadcast"]]);
  });

  test("a batch takes one turn, and is passed on unchanged", () => {
    const { submit, lanes, ops } = three();
    const batch = [callOf("allReduce"), callOf("refused"), callOf("reduceScatter")];
    const works = submit(batch);
    submit([callOf("send"), callOf("recv")]);
    submit([callOf("broadcast")]);
    expect(ops()).toEqual([["allReduce refused reduceScatter", "send recv"], ["broadcast"], []]);
    expect(lanes[0]?.batches[0]).toBe(batch);
    expect(works).toEqual(lanes[0]?.works.slice(0, 3) ?? []);
  });

  test("ranks whose batches differ in their messages agree on the turns", () => {
    const [talking, silent] = [three(), three()];
    talking.submit([callOf("send"), callOf("send")]);
    for (const { submit } of [talking, silent]) submit([callOf("allReduce")]);
    talking.submit([callOf("send"), callOf("allReduce"), callOf("recv"), callOf("reduce")]);
    silent.submit([callOf("allReduce"), callOf("reduce")]);
    for (const { submit } of [talking, silent]) submit([callOf("broadcast")]);
    expect(talking.ops()).toEqual([["send send", "allReduce", "send recv"], ["allReduce reduce"], ["broadcast"]]);
    expect(silent.ops()).toEqual([["allReduce"], ["allReduce reduce"], ["broadcast"]]);
  });

  test("the Works of a batch with messages are in the order of the calls", () => {
    const { submit, lanes } = three();
    submit([callOf("allReduce")]);
    const works = submit([callOf("send"), callOf("allReduce"), callOf("recv"), callOf("reduce")]);
    const [first, second] = lanes.map((lane) => lane.works);
    expect(works).toEqual([first?.[1], second?.[0], first?.[2], second?.[1]] as never);
  });

  test.each(["barrier", "monitoredBarrier"] as const)("a %s is one on all, and takes no turn", (op) => {
    const { submit, lanes, ops } = three();
    const [work, ...more] = submit([callOf(op)]);
    expect(more).toEqual([]);
    submit([callOf("allReduce")]);
    expect(ops()).toEqual([[op, "allReduce"], [op], [op]]);
    for (const [i, lane] of lanes.entries()) {
      expect(work?.isCompleted()).toBe(false);
      lane.works[0]?.settle();
      expect(work?.isCompleted()).toBe(i === 2);
    }
    expect(work?.isSuccess()).toBe(true);
  });

  test("a barrier fails with the first error", () => {
    const { submit, lanes } = three();
    const [work] = submit([callOf("barrier")]);
    const error = new DistBackendError("lost");
    lanes[1]?.works[0]?.settle(error);
    expect(work && failureOf(work)).toBe(error);
  });

  test("a barrier within a batch keeps its position on each", () => {
    const { submit, ops } = three();
    submit([callOf("allReduce")]);
    const works = submit([callOf("broadcast"), callOf("send"), callOf("barrier"), callOf("reduce")]);
    expect(works).toHaveLength(4);
    expect(ops()).toEqual([["allReduce", "send barrier"], ["broadcast barrier reduce"], ["barrier"]]);
  });

  test("the second half of a sparse all-reduce follows the first", () => {
    const { submit, ops } = three();
    submit([callOf("allReduce")]);
    submit([callOf("allReduceSparse")]);
    submit([callOf("allReduceSparse", { continuation: true })]);
    submit([callOf("broadcast")]);
    expect(ops()).toEqual([["allReduce"], ["allReduceSparse", "allReduceSparse"], ["broadcast"]]);
  });

  test("over a single submit, the same one twice, or none", () => {
    const lane = fakeSubmit();
    roundRobin([lane.submit])([callOf("barrier")]);
    const twice = roundRobin([lane.submit, lane.submit]);
    twice([callOf("allReduce")]);
    twice([callOf("send"), callOf("reduce")]);
    expect(lane.ops()).toEqual(["barrier", "allReduce", "send", "reduce"]);
    expect(twice([])).toEqual([]);
    expect(() => roundRobin([])).toThrow(InvalidArgumentError);
  });
});
