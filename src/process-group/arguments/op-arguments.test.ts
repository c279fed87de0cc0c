import "reflect-metadata";
import { afterAll, describe, expect, test } from "bun:test";
import { ReduceOp, tensorsOf } from "../../collectives/index.ts";
import * as dist from "../../distributed/index.ts";
import type { ErrorDetails } from "../../errors/index.ts";
import { createContainer, registerBackend } from "../../registry/index.ts";
import { HashStore } from "../../store/index.ts";
import { type TensorLike, tensor } from "../../tensor/index.ts";
import type { Work } from "../../work/index.ts";
import { everyOp, memoryPlugin } from "../fixtures/memory-backend.ts";

// This is rank 1 of 3, whose backend only records its calls.
const plugin = memoryPlugin("noting", { capabilities: everyOp });
createContainer({ install: true });
registerBackend(plugin);
const group = await dist.initProcessGroup({
  store: new HashStore(),
  rank: 1,
  worldSize: 3,
  backend: "noting",
  timeout: "7s",
});
const backend = plugin.made[0];
afterAll(async () => {
  await dist.destroyProcessGroup().catch(() => {});
  createContainer({ install: true });
});

const f32 = (length = 2) => new Float32Array(length);
const three = (length = 2) => [f32(length), f32(length), f32(length)];
/** Anything that an untyped caller may pass. */
// biome-ignore lint/suspicious/noExplicitAny: wrong types are what is tested
const anything = (value: unknown): any => value;

interface Refusal {
  readonly name: string;
  readonly code: string;
  readonly message: string;
  readonly details: ErrorDetails;
}

function refusal(work: Work<unknown>): Refusal {
  const error = work.exception();
  if (error === undefined) throw new Error("it was not refused");
  return { name: error.name, code: error.code, message: error.message, details: error.details };
}

type Bad = readonly [what: string, call: () => Work<unknown>, message: string, name?: string];
const unsupported = "UnsupportedOperationError";

const rooted = (op: string, argument: "src" | "dst", call: (options: object) => Work<unknown>): Bad[] => {
  const inGroup = argument === "src" ? "groupSrc" : "groupDst";
  return [
    [`${op} without a rank`, () => call({}), `${op}: give exactly one of ${argument} (global rank) and ${inGroup}`],
    [`${op} with two ranks`, () => call({ [argument]: 0, [inGroup]: 0 }), `${op}: give exactly one of ${argument}`],
    [`${op}, rank 3`, () => call({ [argument]: 3 }), `${op}: global rank 3 is not in group "0"`],
    [`${op}, rank -1`, () => call({ [argument]: -1 }), `${op}: global rank -1 is not`],
    [`${op}, group rank 3`, () => call({ [inGroup]: 3 }), `${op}: group rank 3 is not in group "0"`],
    [`${op}, group rank 0.5`, () => call({ [inGroup]: 0.5 }), `${op}: group rank 0.5 is not`],
    [`${op}, rank as text`, () => call({ [argument]: "0" }), `${op}: global rank 0 is not`],
  ];
};

const timed = (op: string, call: (options: object) => Work<unknown>): Bad[] => [
  [`${op}, no options object`, () => call(anything(null)), `${op}: options must be an object, got null`],
  [`${op}, a number as options`, () => call(anything(5)), `${op}: options must be an object, got number 5`],
  [`${op}, time-out 0`, () => call({ timeout: 0 }), `${op}: timeout must be`],
  [`${op}, time-out NaN`, () => call({ timeout: Number.NaN }), `${op}: timeout must be`],
];

/** Adds options to valid ones, unless they are not an object. */
const and = (right: object, options: object) =>
  typeof options === "object" && options !== null ? { ...right, ...options } : options;

const listed = (op: string, argument: string, call: (list: TensorLike[]) => Work<unknown>): Bad[] => [
  [`${op}, no ${argument}`, () => call([]), `${op}: ${argument} is an empty list`],
  [
    `${op}, too few ${argument}`,
    () => call([f32(), f32()]),
    `${op}: ${argument} must have one tensor per rank of the group: expected 3, got 2`,
  ],
  [
    `${op}, too many ${argument}`,
    () => call([...three(), f32()]),
    `${op}: ${argument} must have one tensor per rank of the group: expected 3, got 4`,
  ],
  [
    `${op}, ${argument} of two dtypes`,
    () => call([f32(), f32(), new Int32Array(2)]),
    `${op}: ${argument} must all have the same dtype: [0] is float32, [2] is int32`,
  ],
  [
    `${op}, a number among ${argument}`,
    () => call([f32(), anything(5), f32()]),
    `${op}: ${argument}[1] must be a TypedArray`,
  ],
  [
    `${op}, one tensor as ${argument}`,
    () => call(anything(f32(6))),
    `${op}: ${argument} must be an array of tensors, got Float32Array`,
  ],
  [
    `${op}, ${argument} undefined`,
    () => call(anything({})),
    `${op}: ${argument} must be an array of tensors, got Object`,
  ],
];

const bad: readonly Bad[] = [
  ...rooted("reduce", "dst", (options) => group.reduce(f32(), options)),
  ...timed("reduce", (options) => group.reduce(f32(), and({ dst: 0 }, options))),
  ["reduce of no tensor", () => group.reduce(anything([f32()]), { dst: 0 }), "reduce: tensor must be a TypedArray"],
  [
    "reduce by no op",
    () => group.reduce(f32(), { dst: 0, op: anything("SUM") }),
    "reduce: op must be one of ReduceOp's",
  ],
  ["reduce, dtype not claimed", () => group.reduce(new Int8Array(1), { dst: 0 }), "reduce: backend", unsupported],
  [
    "reduce, op not claimed",
    () => group.reduce(new Int32Array(1), { dst: 0, op: ReduceOp.MAX }),
    "ReduceOp.MAX with int32",
    unsupported,
  ],

  ...timed("allGather", (options) => group.allGather(three(), f32(), options)),
  ...listed("allGather", "outputs", (list) => group.allGather(list, f32())),
  [
    "allGather, a longer output",
    () => group.allGather([f32(), f32(3), f32()], f32()),
    "allGather: outputs[1] has 3 elements, input has 2; they must be equal",
  ],
  [
    "allGather, other dtypes",
    () =>
      group.allGather(
        [1, 2, 3].map(() => new Int32Array(2)),
        f32(),
      ),
    "allGather: input is float32, outputs is int32; they must have the same dtype",
  ],
  ["allGather of no tensor", () => group.allGather(three(), anything(null)), "allGather: input must be a TypedArray"],
  [
    "allGather, dtype not claimed",
    () =>
      group.allGather(
        [1, 2, 3].map(() => new Int32Array(2)),
        new Int32Array(2),
      ),
    "does not take int32",
    unsupported,
  ],

  ...timed("allGatherIntoTensor", (options) => group.allGatherIntoTensor(f32(6), f32(), options)),
  [
    "allGatherIntoTensor, short output",
    () => group.allGatherIntoTensor(f32(5), f32()),
    "allGatherIntoTensor: output must have 3 (world size) times the elements of input (2), got 5",
  ],
  [
    "allGatherIntoTensor, long output",
    () => group.allGatherIntoTensor(f32(1), f32(0)),
    "output must have 3 (world size) times the elements of input (0), got 1",
  ],
  [
    "allGatherIntoTensor, other dtype",
    () => group.allGatherIntoTensor(new Int32Array(6), f32()),
    "allGatherIntoTensor: input is float32, output is int32",
  ],
  [
    "allGatherIntoTensor into a list",
    () => group.allGatherIntoTensor(anything(three()), f32()),
    "allGatherIntoTensor: inputs must be an array of tensors",
  ],

  ...rooted("gather", "dst", (options) => group.gather(f32(), options)),
  ...timed("gather", (options) => group.gather(f32(), anything(and({ dst: 0 }, options)))),
  ...listed("gather", "outputs", (outputs) => group.gather(f32(), { dst: 1, outputs })),
  [
    "gather, no outputs at the destination",
    () => group.gather(f32(), { dst: 1 }),
    "gather: outputs must be given on the destination rank",
  ],
  [
    "gather, outputs elsewhere",
    () => group.gather(f32(), { dst: 0, outputs: three() }),
    "gather: outputs must only be given on the destination rank",
  ],
  [
    "gather, a longer output",
    () => group.gather(f32(), { dst: 1, outputs: [f32(), f32(), f32(1)] }),
    "gather: outputs[2] has 1 elements, input has 2",
  ],

  ...rooted("scatter", "src", (options) => group.scatter(f32(), options)),
  ...timed("scatter", (options) => group.scatter(f32(), anything(and({ src: 0 }, options)))),
  ...listed("scatter", "inputs", (inputs) => group.scatter(f32(), { src: 1, inputs })),
  [
    "scatter, no inputs at the source",
    () => group.scatter(f32(), { groupSrc: 1 }),
    "scatter: inputs must be given on the source rank",
  ],
  [
    "scatter, inputs elsewhere",
    () => group.scatter(f32(), { src: 2, inputs: three() }),
    "scatter: inputs must only be given on the source rank",
  ],
  [
    "scatter, a longer input",
    () => group.scatter(f32(), { src: 1, inputs: [f32(9), f32(), f32()] }),
    "scatter: inputs[0] has 9 elements, output has 2",
  ],

  ...timed("reduceScatter", (options) => group.reduceScatter(f32(), three(), options)),
  ...listed("reduceScatter", "inputs", (inputs) => group.reduceScatter(f32(), inputs)),
  [
    "reduceScatter, own input of another length",
    () => group.reduceScatter(f32(), [f32(), f32(3), f32()]),
    "reduceScatter: inputs[1] has 3 elements, output has 2; they must be equal",
  ],
  [
    "reduceScatter, other dtype",
    () => group.reduceScatter(new Int32Array(2), three()),
    "reduceScatter: output is int32, inputs is float32",
  ],
  [
    "reduceScatter by no op",
    () => group.reduceScatter(f32(), three(), { op: anything(0) }),
    "reduceScatter: op must be one of",
  ],
  [
    "reduceScatter, op not claimed",
    () => group.reduceScatter(f32(), three(), { op: ReduceOp.MIN }),
    "ReduceOp.MIN with float32",
    unsupported,
  ],

  ...timed("reduceScatterTensor", (options) => group.reduceScatterTensor(f32(), f32(6), options)),
  [
    "reduceScatterTensor, short input",
    () => group.reduceScatterTensor(f32(), f32(4)),
    "reduceScatterTensor: input must have 3 (world size) times the elements of output (2), got 4",
  ],
  [
    "reduceScatterTensor, other dtype",
    () => group.reduceScatterTensor(f32(), new Int32Array(6)),
    "reduceScatterTensor: output is float32, input is int32",
  ],
  [
    "reduceScatterTensor, op not claimed",
    () => group.reduceScatterTensor(new Int32Array(2), new Int32Array(6), { op: ReduceOp.MAX }),
    "ReduceOp.MAX with int32",
    unsupported,
  ],

  ...timed("allToAll", (options) => group.allToAll(three(), three(), options)),
  ...listed("allToAll", "outputs", (outputs) => group.allToAll(outputs, three())),
  ...listed("allToAll", "inputs", (inputs) => group.allToAll(three(), inputs)),
  [
    "allToAll, own tensors differ",
    () => group.allToAll([f32(), f32(5), f32()], three()),
    "allToAll: outputs[1] has 5 elements, inputs[1] has 2; they must be equal",
  ],
  [
    "allToAll, other dtypes",
    () =>
      group.allToAll(
        [1, 2, 3].map(() => new Int32Array(2)),
        three(),
      ),
    "allToAll: inputs is float32, outputs is int32",
  ],

  ...timed("allToAllSingle", (options) => group.allToAllSingle(f32(6), f32(6), options)),
  [
    "allToAllSingle, input not divisible",
    () => group.allToAllSingle(f32(6), f32(7)),
    "allToAllSingle: Tensor's dim 0 (7) does not divide equally across group size (3); give inputSplits",
  ],
  [
    "allToAllSingle, output not divisible",
    () => group.allToAllSingle(f32(5), f32(6)),
    "does not divide equally across group size (3); give outputSplits",
  ],
  [
    "allToAllSingle, lengths differ",
    () => group.allToAllSingle(f32(9), f32(6)),
    "allToAllSingle: this rank would send itself 2 elements but expects 3",
  ],
  [
    "allToAllSingle, two splits",
    () => group.allToAllSingle(f32(6), f32(6), { inputSplits: [3, 3] }),
    "Number of tensor splits not equal to group size: inputSplits has 2, the group 3",
  ],
  [
    "allToAllSingle, splits that add up to less",
    () => group.allToAllSingle(f32(6), f32(6), { outputSplits: [1, 2, 2] }),
    "Split sizes doesn't match total dim 0 size: outputSplits add up to 5, the tensor has 6",
  ],
  [
    "allToAllSingle, a negative split",
    () => group.allToAllSingle(f32(6), f32(6), { inputSplits: [7, -2, 1] }),
    "inputSplits must be integers of at least 0, got [7, -2, 1]",
  ],
  [
    "allToAllSingle, half a split",
    () => group.allToAllSingle(f32(6), f32(6), { inputSplits: [2.5, 2, 1.5] }),
    "inputSplits must be integers",
  ],
  [
    "allToAllSingle, splits that are not a list",
    () => group.allToAllSingle(f32(6), f32(6), { inputSplits: anything(3) }),
    "inputSplits must be an array of numbers, got number 3",
  ],
  [
    "allToAllSingle, null as splits",
    () => group.allToAllSingle(f32(6), f32(6), { outputSplits: anything(null) }),
    "outputSplits must be an array of numbers, got null",
  ],
  [
    "allToAllSingle, other dtype",
    () => group.allToAllSingle(new Int32Array(6), f32(6)),
    "allToAllSingle: input is float32, output is int32",
  ],

  ...rooted("send", "dst", (options) => group.send(f32(), options)),
  ...timed("send", (options) => group.send(f32(), anything(and({ dst: 0 }, options)))),
  ["send to itself", () => group.send(f32(), { dst: 1 }), "send: dst is the rank of this process itself"],
  ["send of no tensor", () => group.send(anything("x"), { dst: 0 }), "send: tensor must be a TypedArray"],
  ...[-1, 0.5, 2 ** 31, Number.NaN, "1", null].map(
    (tag): Bad => [
      `send, tag ${tag}`,
      () => group.send(f32(), { dst: 0, tag: anything(tag) }),
      `send: tag must be an integer from 0 to 2147483647, got ${tag}`,
    ],
  ),

  ...rooted("recv", "src", (options) => group.recv(f32(), options)).filter(([what]) => what !== "recv without a rank"),
  ...timed("recv", (options) => group.recv(f32(), options)),
  ["recv from itself", () => group.recv(f32(), { groupSrc: 1 }), "recv: src is the rank of this process itself"],
  ["recv, tag -1", () => group.recv(f32(), { tag: -1 }), "recv: tag must be an integer from 0"],
  ["recv, dtype not claimed", () => group.recv(new Int32Array(1)), "does not take int32", unsupported],

  ...timed("monitoredBarrier", (options) => group.monitoredBarrier(options)),
  [
    "monitoredBarrier, waitAllRanks that is not a flag",
    () => group.monitoredBarrier({ waitAllRanks: anything("yes") }),
    'monitoredBarrier: waitAllRanks must be true or false, got "yes"',
  ],
];

describe("an invalid argument is refused, and nothing reaches the backend", () => {
  test.each(bad)("%s", (what, call, message, name = "InvalidArgumentError") => {
    const before = backend?.calls.length;
    const work = call();
    expect(refusal(work)).toMatchObject({ name });
    expect(refusal(work).message).toContain(message);
    expect(refusal(work).details.op).toBe(what.split(/[ ,]/)[0]);
    expect(work.seq).toBe(-1);
    expect(backend?.calls.length).toBe(before ?? -1);
  });

  test("a detached tensor has its own code", () => {
    const gone = f32();
    gone.buffer.transfer();
    for (const work of [
      group.reduce(gone, { dst: 0 }),
      group.allGather([f32(), gone, f32()], f32()),
      group.scatter(gone, { src: 0 }),
      group.send(gone, { dst: 0 }),
      group.recv(gone),
    ]) {
      expect(refusal(work)).toMatchObject({ name: "InvalidArgumentError", code: "DETACHED_BUFFER" });
    }
  });

  test("recv from any rank if the table lacks it", async () => {
    const named = memoryPlugin("named", { capabilities: { ...everyOp, anySource: false } });
    registerBackend(named);
    const other = await dist.newGroup(undefined, { backend: "named" });
    if (other === null) throw new Error("every rank is in it");
    const { name, message } = refusal(other.recv(f32()));
    expect([name, message]).toEqual([
      unsupported,
      'recv: backend "named" cannot receive from any rank: name one with src or groupSrc',
    ]);
    expect(await other.recv(f32(), { src: 2 })).toHaveLength(2);
    await other.close();
  });
});

describe("valid arguments reach the backend", () => {
  const last = () => backend?.calls.at(-1);
  const lengths = () => tensorsOf(last() ?? { inputs: [], outputs: [] }).map(({ length }) => length);

  test("roots as group ranks, time-outs in milliseconds, tensors as views", async () => {
    const t = f32();
    expect(await group.reduce(t, { dst: 2, op: ReduceOp.MAX, timeout: "2s" })).toBe(t);
    expect(last()).toMatchObject({ root: 2, reduceOp: ReduceOp.MAX, timeoutMs: 2_000 });
    expect(await group.scatter(t, { groupSrc: 0 })).toBe(t);
    expect(last()).toMatchObject({ root: 0, timeoutMs: 7_000 });
    expect(lengths()).toEqual([2]);
    expect(await group.scatter(t, { src: 1, inputs: three() })).toBe(t);
    expect(lengths()).toEqual([2, 2, 2, 2]);
    expect(await group.gather(t, { dst: 0 })).toBeUndefined();
    const outputs = three();
    expect(await group.gather(t, { dst: 1, outputs })).toEqual(outputs);
  });

  test("lists whose lengths may differ", async () => {
    const output = f32(1);
    expect(await group.reduceScatter(output, [f32(5), f32(1), f32(0)])).toBe(output);
    expect(lengths()).toEqual([5, 1, 0, 1]);
    const outputs = [f32(0), f32(4), f32(2)];
    expect(await group.allToAll(outputs, [f32(7), f32(4), f32(0)])).toEqual(outputs);
    expect(lengths()).toEqual([7, 4, 0, 0, 4, 2]);
  });

  test("splits, in elements", async () => {
    await group.allToAllSingle(f32(6), f32(6));
    expect(last()).toMatchObject({ inputSplits: undefined, outputSplits: undefined });
    await group.allToAllSingle(f32(4), f32(6), { inputSplits: [4, 2, 0], outputSplits: [0, 2, 2] });
    expect(last()).toMatchObject({ inputSplits: [4, 2, 0], outputSplits: [0, 2, 2] });
    const rows = tensor(Array<number>(12).fill(0), { dtype: "float32", shape: [4, 3] });
    await group.allToAllSingle(f32(9), rows, { inputSplits: [1, 1, 2] });
    expect(last()).toMatchObject({ inputSplits: [3, 3, 6], outputSplits: [3, 3, 3] });
  });

  test("peers and tags", async () => {
    await dist.isend(f32(), { dst: 2, tag: 9 });
    expect(last()).toMatchObject({ peer: 2, tag: 9 });
    await dist.irecv(f32(), { groupSrc: 0, tag: 2 ** 31 - 1 });
    expect(last()).toMatchObject({ peer: 0, tag: 2 ** 31 - 1 });
    await dist.recv(f32());
    expect(last()).toMatchObject({ peer: -1, tag: 0 });
  });

  test("flags of the monitored barrier", async () => {
    await dist.monitoredBarrier();
    expect(last()).toMatchObject({ waitAllRanks: false, timeoutMs: 7_000 });
    await dist.monitoredBarrier({ waitAllRanks: true, timeout: 10 });
    expect(last()).toMatchObject({ waitAllRanks: true, timeoutMs: 10 });
  });

  test("ops of a group that this rank is not in resolve to their arguments", async () => {
    const before = backend?.calls.length;
    const [t, list] = [f32(), three()];
    const none = { group: null };
    expect(await dist.reduce(t, { ...none, dst: 0 })).toBe(t);
    expect(await dist.allGather(list, t, none)).toBe(list);
    expect(await dist.allGatherIntoTensor(t, t, none)).toBe(t);
    expect(await dist.gather(t, { ...none, dst: 0 })).toBeUndefined();
    expect(await dist.scatter(t, { ...none, src: 0 })).toBe(t);
    expect(await dist.reduceScatter(t, list, none)).toBe(t);
    expect(await dist.reduceScatterTensor(t, t, none)).toBe(t);
    expect(await dist.allToAll(list, list, none)).toBe(list);
    expect(await dist.allToAllSingle(t, t, none)).toBe(t);
    expect(await dist.send(t, { ...none, dst: 0 })).toBe(t);
    expect(await dist.recv(t, none)).toBe(t);
    expect(await dist.monitoredBarrier(none)).toBeUndefined();
    expect(backend?.calls.length).toBe(before ?? -1);
  });
});
