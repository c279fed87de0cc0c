import { describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "../errors/index.ts";
import { TENSOR_PROTOCOL, type TensorLike, type TensorView, tensor, viewTensor } from "../tensor/index.ts";
import {
  requireAlike,
  requireLengthAt,
  requireLengths,
  requirePerRank,
  requireSplits,
  requireTag,
  requireTimes,
} from "./shapes.ts";

const view = (value: TensorLike): TensorView => viewTensor(value, "tensor");
const floats = (length: number) => view(new Float32Array(length));
const cuda = (index: number) =>
  view({ [TENSOR_PROTOCOL]: () => ({ ptr: 8, byteLength: 4, dtype: "float32", device: `cuda:${index}` }) });

function refusal(call: () => unknown): { message: string; op: unknown; argument: unknown } {
  try {
    call();
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidArgumentError);
    const { message, details } = error as InvalidArgumentError;
    return { message, op: details.op, argument: details.argument };
  }
  throw new Error("it was taken");
}

describe("requireAlike", () => {
  test("accepts one dtype on one device, whatever the lengths", () => {
    requireAlike("gather", floats(1), "input", floats(9), "outputs");
    requireAlike("gather", cuda(1), "input", cuda(1), "outputs");
  });

  test("refuses two dtypes", () => {
    expect(refusal(() => requireAlike("gather", floats(1), "input", view(new Int32Array(1)), "outputs"))).toEqual({
      message: "gather: input is float32, outputs is int32; they must have the same dtype",
      op: "gather",
      argument: "outputs",
    });
  });

  test("refuses two devices, even of one type", () => {
    for (const other of [cuda(0), floats(1)]) {
      expect(refusal(() => requireAlike("gather", cuda(1), "input", other, "outputs")).message).toBe(
        "gather: input and outputs must be on the same device",
      );
    }
  });
});

describe("requirePerRank", () => {
  test("counts", () => {
    requirePerRank("scatter", "inputs", [1, 2, 3], 3);
    for (const list of [[], [1, 2], [1, 2, 3, 4]]) {
      expect(refusal(() => requirePerRank("scatter", "inputs", list, 3))).toEqual({
        message: `scatter: inputs must have one tensor per rank of the group: expected 3, got ${list.length}`,
        op: "scatter",
        argument: "inputs",
      });
    }
  });
});

describe("requireLengths", () => {
  test("requires equal lengths in a list and names the first that differs", () => {
    requireLengths("allGather", "outputs", [floats(2), floats(2)], floats(2), "input");
    requireLengths("allGather", "outputs", [], floats(2), "input");
    const list = [floats(2), floats(0), floats(3)];
    expect(refusal(() => requireLengths("allGather", "outputs", list, floats(2), "input"))).toEqual({
      message: "allGather: outputs[1] has 0 elements, input has 2; they must be equal",
      op: "allGather",
      argument: "outputs",
    });
  });

  test("requireLengthAt checks only one", () => {
    const list = [floats(2), floats(0), floats(3)];
    requireLengthAt("reduceScatter", "inputs", list, 2, floats(3), "output");
    expect(refusal(() => requireLengthAt("reduceScatter", "inputs", list, 0, floats(3), "output")).message).toBe(
      "reduceScatter: inputs[0] has 2 elements, output has 3; they must be equal",
    );
  });

  test("counts elements, not bytes", () => {
    const complex = view(tensor([1, 2, 3, 4], { dtype: "complex64" }));
    requireLengths("allGather", "outputs", [complex], floats(complex.length), "input");
  });
});

describe("requireTimes", () => {
  test("requires world size times as many elements", () => {
    requireTimes("allGatherIntoTensor", floats(6), "output", floats(2), "input", 3);
    requireTimes("allGatherIntoTensor", floats(0), "output", floats(0), "input", 3);
    for (const length of [0, 2, 5, 7]) {
      expect(
        refusal(() => requireTimes("reduceScatterTensor", floats(length), "input", floats(2), "output", 3)),
      ).toEqual({
        message: `reduceScatterTensor: input must have 3 (world size) times the elements of output (2), got ${length}`,
        op: "reduceScatterTensor",
        argument: "input",
      });
    }
  });
});

describe("requireSplits", () => {
  const splits = (given: readonly number[] | undefined, value: TensorView, size = 2) =>
    requireSplits("allToAllSingle", "inputSplits", given, value, size);

  test("equal parts by default, and for an empty list as in PyTorch", () => {
    expect(splits(undefined, floats(6))).toEqual([3, 3]);
    expect(splits([], floats(6), 3)).toEqual([2, 2, 2]);
    expect(splits(undefined, floats(0), 3)).toEqual([0, 0, 0]);
    expect(splits(undefined, floats(5), 1)).toEqual([5]);
  });

  test("are elements of a TypedArray and rows of a shaped tensor", () => {
    expect(splits([6, 0], floats(6))).toEqual([6, 0]);
    const matrix = view(tensor(Array<number>(12).fill(1), { dtype: "float32", shape: [4, 3] }));
    expect(splits([1, 3], matrix)).toEqual([3, 9]);
    expect(splits(undefined, matrix)).toEqual([6, 6]);
    const hollow = view(tensor([], { dtype: "float32", shape: [4, 0] }));
    expect(splits([1, 3], hollow)).toEqual([0, 0]);
    expect(splits([0, 0], floats(0))).toEqual([0, 0]);
  });

  test.each<[unknown, TensorView, string]>([
    [undefined, floats(5), "Tensor's dim 0 (5) does not divide equally across group size (2); give inputSplits"],
    [[1], floats(1), "Number of tensor splits not equal to group size: inputSplits has 1, the group 2"],
    [[1, 2, 3], floats(6), "Number of tensor splits not equal to group size: inputSplits has 3, the group 2"],
    [[-1, 7], floats(6), "inputSplits must be integers of at least 0, got [-1, 7]"],
    [[0.5, 5.5], floats(6), "inputSplits must be integers of at least 0, got [0.5, 5.5]"],
    [["3", 3], floats(6), "inputSplits must be integers of at least 0, got [3, 3]"],
    [[3, 4], floats(6), "Split sizes doesn't match total dim 0 size: inputSplits add up to 7, the tensor has 6"],
    [[0, 0], floats(6), "inputSplits add up to 0, the tensor has 6"],
    [3, floats(6), "inputSplits must be an array of numbers, got number 3"],
    [null, floats(6), "inputSplits must be an array of numbers, got null"],
  ])("%j is refused", (given, value, message) => {
    const error = refusal(() => splits(given as number[], value));
    expect(error.message).toContain(message);
    expect(error).toMatchObject({ op: "allToAllSingle", argument: "inputSplits" });
  });
});

describe("requireTag", () => {
  test("0 by default, up to 31 bits", () => {
    expect([undefined, 0, 5, 2 ** 31 - 1].map((tag) => requireTag("send", tag))).toEqual([0, 0, 5, 2 ** 31 - 1]);
  });

  test.each<unknown>([-1, 0.5, 2 ** 31, Number.NaN, Number.POSITIVE_INFINITY, "1", null, {}])(
    "%p is not a tag",
    (tag) => {
      const error = refusal(() => requireTag("recv", tag as number));
      expect(error.message).toStartWith("recv: tag must be an integer from 0 to 2147483647, got ");
      expect(error).toMatchObject({ op: "recv", argument: "tag" });
    },
  );
});
