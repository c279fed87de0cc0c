import { describe, describeNumber, InvalidArgumentError, messageOf } from "../errors/index.ts";
import { type Device, type Stream, Tensor, type TensorLike, type TensorView, viewTensor } from "../tensor/index.ts";
import { type Timeout, timeoutMs } from "../time/index.ts";
import { ReduceOp } from "./reduce-op.ts";

/** Examples of options, for callers that pass a bare argument as PyTorch's functions take it. */
const written: Readonly<Record<string, string>> = {
  allReduce: "{ op: ReduceOp.MAX }",
  reduce: "{ dst: 0, op: ReduceOp.MAX }",
  reduceScatter: "{ op: ReduceOp.MAX }",
  reduceScatterTensor: "{ op: ReduceOp.MAX }",
  broadcast: "{ src: 0 }",
  broadcastObject: "{ src: 0 }",
  scatter: "{ src: 0 }",
  scatterObject: "{ src: 0 }",
  gather: "{ dst: 0 }",
  gatherObject: "{ dst: 0 }",
  send: "{ dst: 1 }",
  sendObject: "{ dst: 1 }",
  recv: "{ src: 0 }",
  recvObject: "{ src: 0 }",
  initProcessGroup: '{ backend: "gloo" }',
};

/** Throws unless `options` is an options object, for callers without types. */
export function requireOptions(op: string, options: object): void {
  // Nearly all are literals; the other checks take longer.
  if (typeof options === "object" && options !== null && (options.constructor === Object || !isArgument(options)))
    return;
  const given = options instanceof ReduceOp ? `ReduceOp.${options.name}` : describe(options);
  const example = written[op];
  const advice = example === undefined ? "" : `; write for instance ${example}`;
  throw new InvalidArgumentError(`${op}: options must be an object, got ${given}${advice}`, {
    op,
    argument: "options",
  });
}

/** Whether an object is an argument of ops, which would otherwise count as empty options. */
function isArgument(value: object): boolean {
  return ArrayBuffer.isView(value) || Array.isArray(value) || value instanceof ReduceOp || value instanceof Tensor;
}

/** The reduce op of a call; SUM if none is given. */
export function requireReduceOp(op: string, reduceOp: ReduceOp | undefined): ReduceOp {
  if (reduceOp === undefined) return ReduceOp.SUM;
  if (reduceOp instanceof ReduceOp) return own(reduceOp);
  throw new InvalidArgumentError(`${op}: op must be one of ReduceOp's constants, got ${describe(reduceOp)}`, {
    op,
    argument: "op",
  });
}

/** Our instance of a reduce op from another copy of this package: ops are compared by identity. */
function own(reduceOp: ReduceOp): ReduceOp {
  if (reduceOp.constructor === ReduceOp) return reduceOp;
  const { name, factor } = reduceOp;
  return name === "PREMUL_SUM" ? ReduceOp.premulSum(factor) : ReduceOp[name];
}

/** The time-out of a call in milliseconds. */
export function requireTimeout(op: string, timeout: Timeout | undefined, defaultMs: number): number {
  if (timeout === undefined) return defaultMs;
  try {
    return timeoutMs(timeout, defaultMs);
  } catch (cause) {
    const reason = messageOf(cause);
    throw new InvalidArgumentError(`${op}: ${reason}`, { op, argument: "timeout", cause });
  }
}

/** A stream of the device of a call. */
export function requireStream(op: string, stream: Stream, device: Device): Stream {
  const fail = (reason: string): never => {
    throw new InvalidArgumentError(`${op}: ${reason}`, { op, argument: "stream" });
  };
  const { device: own, handle } = stream ?? {};
  if (typeof handle !== "number" || typeof own !== "object" || own === null) {
    return fail(`stream must be a stream such as new cuda.CudaStream(), got ${describe(stream)}`);
  }
  if (!Number.isSafeInteger(handle) || handle < 0) {
    return fail(`stream must have the address of a stream as its handle, or 0, got ${describeNumber(handle)}`);
  }
  if (device.type === "cpu") return fail("stream is for tensors on a device; these are in host memory");
  if (own.type === device.type && own.index === device.index) return stream;
  return fail(`stream is of ${own.type}:${own.index}, the tensors are on ${device.type}:${device.index}`);
}

/** A flag; false if it is not given. */
export function requireFlag(op: string, argument: string, flag: boolean | undefined): boolean {
  if (flag === undefined) return false;
  if (typeof flag === "boolean") return flag;
  throw new InvalidArgumentError(`${op}: ${argument} must be true or false, got ${describe(flag)}`, { op, argument });
}

/** One tensor. */
export function requireTensor(op: string, tensor: TensorLike, argument = "tensor"): TensorView {
  try {
    return viewTensor(tensor, argument);
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error;
    throw new InvalidArgumentError(`${op}: ${error.message}`, { op, argument, code: error.code });
  }
}

/** A list of at least one tensor, all of the same dtype and device. */
export function requireTensors(op: string, tensors: readonly TensorLike[], argument = "tensors"): TensorView[] {
  if (!Array.isArray(tensors)) {
    throw new InvalidArgumentError(`${op}: ${argument} must be an array of tensors, got ${describe(tensors)}`, {
      op,
      argument,
    });
  }
  if (tensors.length === 0) {
    throw new InvalidArgumentError(`${op}: ${argument} is an empty list; it needs at least one tensor`, {
      op,
      argument,
      code: "EMPTY_LIST",
    });
  }
  // Not map(), which skips holes.
  const views = Array.from(tensors as readonly TensorLike[], (tensor, i) =>
    requireTensor(op, tensor, `${argument}[${i}]`),
  );
  const [first] = views;
  views.forEach((view, i) => {
    if (first === undefined || view.dtype === first.dtype) return;
    throw new InvalidArgumentError(
      `${op}: ${argument} must all have the same dtype: [0] is ${first.dtype}, [${i}] is ${view.dtype}`,
      { op, argument },
    );
  });
  const other = views.find(
    (view) => view.device.type !== first?.device.type || view.device.index !== first.device.index,
  );
  if (other !== undefined) {
    throw new InvalidArgumentError(`${op}: ${argument} must all be on the same device`, { op, argument });
  }
  return views;
}

/** Whether an argument is a list of tensors rather than one. */
export function isTensorList(tensors: TensorLike | readonly TensorLike[]): tensors is readonly TensorLike[] {
  return Array.isArray(tensors);
}
