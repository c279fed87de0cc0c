import { describe, expect, test } from "bun:test";
import * as errors from "./dist-error.ts";
import {
  CudaError,
  DistBackendError,
  DistError,
  DistStoreError,
  DistTimeoutError,
  QueueEmptyError,
} from "./dist-error.ts";

/** Each class with its default code. */
const classes = [
  [errors.DistError, "DistError", "DIST_ERROR"],
  [errors.DistBackendError, "DistBackendError", "BACKEND_ERROR"],
  [errors.CudaError, "CudaError", "CUDA_ERROR"],
  [errors.DistNetworkError, "DistNetworkError", "NETWORK_ERROR"],
  [errors.DistStoreError, "DistStoreError", "STORE_ERROR"],
  [errors.QueueEmptyError, "QueueEmptyError", "QUEUE_EMPTY"],
  [errors.DistTimeoutError, "DistTimeoutError", "TIMEOUT"],
  [errors.BackendUnavailableError, "BackendUnavailableError", "BACKEND_UNAVAILABLE"],
  [errors.UnsupportedOperationError, "UnsupportedOperationError", "UNSUPPORTED_OPERATION"],
  [errors.InvalidArgumentError, "InvalidArgumentError", "INVALID_ARGUMENT"],
] as const;

describe("error classes", () => {
  test("the table above has them all", () => {
    const exported = Object.values(errors).filter((value) => typeof value === "function");
    expect(new Set<unknown>(exported)).toEqual(new Set<unknown>(classes.map(([each]) => each)));
  });

  test.each([...classes])("%p is a real Error with its own name", (ErrorClass, name, code) => {
    const error = new ErrorClass("what happened");
    expect(error).toBeInstanceOf(Error);
    expect(error).toBeInstanceOf(DistError);
    expect(error).toBeInstanceOf(ErrorClass);
    expect([error.name, error._tag, error.code, error.message]).toEqual([name, name, code, "what happened"]);
    expect(String(error)).toBe(`${name}: what happened`);
    expect(error.stack).toContain("dist-error.test.ts");
    expect(error.details).toEqual({});
    expect("cause" in error).toBe(false);
    expect(Object.keys(error).sort()).toEqual(["code", "details"]);
  });

  test.each([...classes])("%p accepts a code, a cause and details", (ErrorClass) => {
    const cause = new RangeError("below");
    const details = { op: "allReduce", seq: 3, group: "0", rank: 1, peers: [2], keys: ["k"], host: "h", port: 1 };
    const error = new ErrorClass("m", { code: "MINE", cause, ...details });
    expect(error.code).toBe("MINE");
    expect(error.cause).toBe(cause);
    expect(error.details).toEqual(details);
  });

  test("QueueEmptyError is a DistStoreError, CudaError a DistBackendError; no other class extends another", () => {
    expect(new QueueEmptyError("m")).toBeInstanceOf(DistStoreError);
    expect(new CudaError("m")).toBeInstanceOf(DistBackendError);
    for (const [ErrorClass] of classes) {
      const others = classes.filter(([other]) => new ErrorClass("m") instanceof other).map(([, name]) => name);
      const isNested = ErrorClass === QueueEmptyError || ErrorClass === CudaError;
      const expected = ErrorClass === DistError ? 1 : isNested ? 3 : 2;
      expect(others).toHaveLength(expected);
    }
  });

  test("a user's subclass can have its own name", () => {
    class StragglerError extends DistTimeoutError {
      override readonly name = "StragglerError";
    }
    const error = new StragglerError("rank 3 is late", { code: "OP_TIMEOUT", peers: [3] });
    expect(error).toBeInstanceOf(DistTimeoutError);
    expect([error.name, error._tag, error.code]).toEqual(["StragglerError", "DistTimeoutError", "OP_TIMEOUT"]);
    expect(new DistTimeoutError("m").name).toBe("DistTimeoutError");
  });

  test("Effect's catchTag recognises them", async () => {
    const { catchTag, fail, runPromise, succeed } = await import("effect/Effect");
    const program = fail(new DistTimeoutError("late")).pipe(
      catchTag("DistTimeoutError", (error) => succeed(error.code)),
    );
    expect(await runPromise(program as never)).toBe("TIMEOUT");
  });
});
