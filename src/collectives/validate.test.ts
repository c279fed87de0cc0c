import { describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "../errors/index.ts";
import { TENSOR_PROTOCOL, type TensorLike, tensor } from "../tensor/index.ts";
import type { Timeout } from "../time/index.ts";
import { ReduceOp } from "./reduce-op.ts";
import {
  isTensorList,
  requireOptions,
  requireReduceOp,
  requireTensor,
  requireTensors,
  requireTimeout,
} from "./validate.ts";

const cuda = (index: number): TensorLike => ({
  [TENSOR_PROTOCOL]: () => ({ ptr: 8, byteLength: 4, dtype: "float32", device: `cuda:${index}` }),
});

/** The error of a call that must be refused. */
function refusal(call: () => unknown): InvalidArgumentError {
  try {
    call();
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidArgumentError);
    return error as InvalidArgumentError;
  }
  throw new Error("it was taken");
}

describe("requireOptions", () => {
  test.each<object>([{}, { op: ReduceOp.MAX }, Object.create(null), new (class Options {})()])(
    "%p is taken",
    (options) => {
      expect(() => requireOptions("allReduce", options)).not.toThrow();
    },
  );

  test.each<[string, unknown, string]>([
    ["allReduce", ReduceOp.MAX, "got ReduceOp.MAX; write for instance { op: ReduceOp.MAX }"],
    ["broadcast", 0, "got number 0; write for instance { src: 0 }"],
    ["allReduce", new Float32Array(1), "got Float32Array; write for instance { op: ReduceOp.MAX }"],
    ["barrier", tensor([1], { dtype: "float32" }), "got Tensor"],
    ["barrier", [1], "got an array of 1"],
    ["barrier", null, "got null"],
  ])("%s: an argument in place of the options", (op, given, text) => {
    const error = refusal(() => requireOptions(op, given as object));
    expect(error.message).toBe(`${op}: options must be an object, ${text}`);
    expect(error.details).toMatchObject({ op, argument: "options" });
  });
});

describe("requireReduceOp", () => {
  test("SUM by default", () => {
    expect(requireReduceOp("allReduce", undefined)).toBe(ReduceOp.SUM);
    expect(requireReduceOp("allReduce", ReduceOp.BXOR)).toBe(ReduceOp.BXOR);
  });

  test.each<unknown>(["SUM", 0, null, {}, ReduceOp])("%p is not a reduce op", (op) => {
    const error = refusal(() => requireReduceOp("reduce", op as ReduceOp));
    expect(error.message).toStartWith("reduce: op must be one of ReduceOp's constants, got ");
    expect(error.details).toMatchObject({ op: "reduce", argument: "op" });
  });
});

describe("requireTimeout", () => {
  test("reads time-outs; the default if there is none", () => {
    expect(requireTimeout("barrier", undefined, 9)).toBe(9);
    expect(requireTimeout("barrier", "2s", 9)).toBe(2_000);
    expect(requireTimeout("barrier", Number.POSITIVE_INFINITY, 9)).toBe(Number.POSITIVE_INFINITY);
  });

  test.each<unknown>([0, -1, Number.NaN, "soon", null])("%p names op and argument", (timeout) => {
    const error = refusal(() => requireTimeout("barrier", timeout as Timeout, 9));
    expect(error.message).toStartWith("barrier: timeout must be");
    expect(error.details).toMatchObject({ op: "barrier", argument: "timeout" });
  });
});

describe("requireTensor", () => {
  test("returns a view", () => {
    expect(requireTensor("broadcast", new Int8Array(2))).toMatchObject({ dtype: "int8", length: 2 });
  });

  test("names op and argument, and keeps the code", () => {
    const error = refusal(() => requireTensor("broadcast", [1] as unknown as TensorLike, "output"));
    expect(error.message).toStartWith("broadcast: output must be a TypedArray");
    expect(error.details).toMatchObject({ op: "broadcast", argument: "output" });
    const gone = new Int8Array(2);
    structuredClone(gone.buffer, { transfer: [gone.buffer] });
    expect(refusal(() => requireTensor("broadcast", gone)).code).toBe("DETACHED_BUFFER");
  });

  test("passes on a foreign tensor's own error", () => {
    const broken: TensorLike = {
      [TENSOR_PROTOCOL]: () => {
        throw new RangeError("freed before");
      },
    };
    expect(() => requireTensor("broadcast", broken)).toThrow(RangeError);
  });
});

describe("requireTensors", () => {
  test("returns views in order", () => {
    const views = requireTensors("allReduce", [new Float32Array(1), tensor([1, 2], { dtype: "float32" })]);
    expect(views.map(({ length }) => length)).toEqual([1, 2]);
  });

  test("an empty list", () => {
    const error = refusal(() => requireTensors("allReduce", []));
    expect(error.code).toBe("EMPTY_LIST");
    expect(error.message).toContain("allReduce: tensors is an empty list");
  });

  test("mixed dtypes, even of one storage type", () => {
    const bits = tensor([1], { dtype: "bfloat16" });
    const error = refusal(() => requireTensors("allReduce", [bits, bits, new Uint16Array(1)]));
    expect(error.message).toContain("[0] is bfloat16, [2] is uint16");
  });

  test("mixed devices", () => {
    expect(requireTensors("allReduce", [cuda(1), cuda(1)])).toHaveLength(2);
    for (const list of [
      [cuda(0), cuda(1)],
      [cuda(0), new Float32Array(1)],
    ]) {
      expect(refusal(() => requireTensors("allReduce", list)).message).toContain("must all be on the same device");
    }
  });

  test("names the element that is not a tensor", () => {
    const list = [new Float32Array(1), undefined as unknown as TensorLike];
    expect(refusal(() => requireTensors("allReduce", list, "inputs")).message).toContain("inputs[1] must be");
    const holes = new Array<TensorLike>(2);
    holes[0] = new Float32Array(1);
    expect(refusal(() => requireTensors("allReduce", holes)).message).toContain("tensors[1] must be");
  });
});

test("isTensorList", () => {
  expect(isTensorList([])).toBe(true);
  expect(isTensorList(new Float32Array(2))).toBe(false);
  expect(isTensorList(cuda(0))).toBe(false);
});
