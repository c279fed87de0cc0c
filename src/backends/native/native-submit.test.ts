import { expect, setDefaultTimeout, test } from "bun:test";
import { NO_TENSORS, type OpCall, opCall } from "../../collectives/op-call.ts";
import { OpType } from "../../collectives/op-type.ts";
import { ReduceOp } from "../../collectives/reduce-op.ts";
import { loadShim } from "../../native/index.ts";
import { type Backend, systemClock } from "../../registry/index.ts";
import { HashStore } from "../../store/index.ts";
import { type TensorView, viewTensor } from "../../tensor/index.ts";
import { sourceOf, type Work } from "../../work/index.ts";
import { describeGloo } from "../gloo/fixtures/availability.ts";
import gloo from "../gloo/plugin.ts";
import { NativeBackend } from "./native-backend.ts";

setDefaultTimeout(60_000);

const device = { type: "cpu", index: 0 } as const;
const LARGE = 5_000;

/** Two ranks in one process, whose native calls are counted. */
class Pair implements AsyncDisposable {
  static async connect(): Promise<Pair> {
    const pair = new Pair();
    const store = new HashStore();
    const connections = [0, 1].map((rank) => {
      const shim = loadShim({ name: "gloo" });
      const { c10d_submit, c10d_submit_one } = shim.symbols;
      const symbols: typeof shim.symbols = {
        ...shim.symbols,
        c10d_submit: (group, ops, count) => {
          pair.submitted[rank]?.push(count);
          return c10d_submit(group, ops, count);
        },
        c10d_submit_one: (group, op, input, output) => {
          pair.submitted[rank]?.push(1);
          return c10d_submit_one(group, op, input, output);
        },
      };
      const context = {
        store,
        rank,
        size: 2,
        globalRanks: [10, 20],
        groupName: "7",
        groupDescription: "",
        device,
        timeoutMs: 10_000,
        clock: systemClock,
        options: {},
        logger: { debug() {}, info() {}, warn() {}, error() {} },
      };
      return NativeBackend.connect({ ...shim, symbols }, context, { host: "127.0.0.1" }, gloo.capabilities);
    });
    pair.ranks = await Promise.all(connections);
    return pair;
  }

  ranks: readonly NativeBackend[] = [];
  /** Numbers of ops of each native call, by rank. */
  readonly submitted: readonly number[][] = [[], []];

  /** Each rank submits what `callsOf` returns; returns the Works of each. */
  submit(callsOf: (rank: number) => readonly OpCall[]): readonly (readonly Work<void>[])[] {
    return this.ranks.map((backend, rank) => backend.submit(callsOf(rank)));
  }

  /** An all-reduce on both, which shows that their calls are in step. */
  async checkInStep(): Promise<void> {
    const tensors = this.ranks.map(({ rank }) => viewTensor(Float32Array.of(rank + 1)));
    await all(this.submit((rank) => [allReduce(tensors[rank])]));
    expect(tensors.map(valuesOf)).toEqual([[3], [3]]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.ranks.map((backend) => backend.close()));
  }
}

const floats = (length: number, value = 0) => viewTensor(new Float32Array(length).fill(value));
const valuesOf = ({ data }: TensorView) => [...new Set(data as Float32Array)];
const all = (works: readonly (readonly Work<void>[])[]) => Promise.all(works.flat());
const errorOf = (work: Work<void>) => work.then(() => undefined).catch((error: unknown) => error);

function allReduce(tensor = floats(1)): OpCall {
  return opCall("allReduce", device, NO_TENSORS, [tensor], 10_000, { reduceOp: ReduceOp.SUM });
}

const refused = () => opCall("refused", device, NO_TENSORS, NO_TENSORS, 10_000);

/** What an op of this backend refuses in TypeScript: its memory is gone before it is submitted. */
function detached(): OpCall {
  const [input, output] = [floats(LARGE), floats(2 * LARGE)];
  (input.data as Float32Array<ArrayBuffer>).buffer.transfer();
  return opCall("allGatherIntoTensor", device, [input], [output], 10_000);
}

/** What the native side refuses. */
const misshapen = () => opCall("allGatherIntoTensor", device, [floats(2)], [floats(3)], 10_000);

describeGloo("NativeBackend.submit", () => {
  test("one Work for each call, in order; several calls are one native call", async () => {
    await using pair = await Pair.connect();
    const tensors = pair.ranks.map(({ rank }) => ({
      small: floats(3, rank + 1),
      large: floats(LARGE, rank + 1),
      gathered: floats(2 * LARGE),
      message: floats(2, 5 * (1 - rank)),
    }));
    const works = pair.submit((rank) => {
      const { small, large, gathered, message } = tensors[rank] ?? expect.unreachable();
      return [
        allReduce(small),
        opCall("allGatherIntoTensor", device, [large], [gathered], 10_000),
        rank === 0
          ? opCall("send", device, [message], NO_TENSORS, 10_000, { peer: 1, tag: 3 })
          : opCall("recv", device, NO_TENSORS, [message], 10_000, { peer: -1, tag: 3 }),
        opCall("barrier", device, NO_TENSORS, NO_TENSORS, 10_000),
      ];
    });
    await all(works);
    expect(pair.submitted).toEqual([[4], [4]]);
    for (const { small, gathered, message } of tensors) {
      expect([small, gathered, message].map(valuesOf)).toEqual([[3], [1, 2], [5]]);
    }
    expect(works.map((own) => own.map(({ opType, seq }) => [opType, seq]))).toEqual([
      [
        [OpType.ALLREDUCE, 1],
        [OpType.ALLGATHER_BASE, 2],
        [OpType.SEND, 1],
        [OpType.BARRIER, 3],
      ],
      [
        [OpType.ALLREDUCE, 1],
        [OpType.ALLGATHER_BASE, 2],
        [OpType.RECV_ANY_SOURCE, 1],
        [OpType.BARRIER, 3],
      ],
    ]);
    // A rank of the group; the process group makes a global one of it.
    expect(sourceOf(works[1]?.[2] ?? {})).toBe(0);
    await pair.checkInStep();
  });

  test("no calls, no Works; one call takes the short path", async () => {
    await using pair = await Pair.connect();
    expect(pair.submit(() => [])).toEqual([[], []]);
    await all(pair.submit(() => [opCall("monitoredBarrier", device, NO_TENSORS, NO_TENSORS, 10_000)]));
    const tensors = pair.ranks.map(() => floats(LARGE, 2));
    await all(pair.submit((rank) => [allReduce(tensors[rank])]));
    expect([tensors.map(valuesOf), pair.submitted]).toEqual([
      [[4], [4]],
      [
        [1, 1],
        [1, 1],
      ],
    ]);
  });

  test("a resizable buffer is copied, alone and in a batch", async () => {
    await using pair = await Pair.connect();
    const resizable = () => {
      const buffer = new ArrayBuffer(4 * LARGE, { maxByteLength: 8 * LARGE });
      return viewTensor(new Float32Array(buffer).fill(1));
    };
    const tensors = pair.ranks.map(() => [resizable(), resizable(), floats(1, 1)]);
    await all(pair.submit((rank) => [allReduce(tensors[rank]?.[0])]));
    await all(pair.submit((rank) => (tensors[rank] ?? []).slice(1).map(allReduce)));
    expect(tensors.flat().map(valuesOf)).toEqual(Array.from({ length: 6 }, () => [2]));
  });

  test.each([
    ["the native side", misshapen, "INVALID_ARGUMENT", "coalescing: output must be world size times the input"],
    ["staging", detached, "DETACHED_BUFFER", "tensor has no address"],
  ])("a batch of which %s refuses one call is refused, and nothing is sent", async (_, bad, code, text) => {
    await using pair = await Pair.connect();
    const tensor = floats(1, 1);
    const works = pair.submit(() => [allReduce(tensor), bad(), allReduce(tensor)]);
    for (const error of await Promise.all(works.flat().map(errorOf))) {
      expect(error).toMatchObject({ name: "InvalidArgumentError", code });
      expect(String(error)).toContain(text);
    }
    expect([works.map(({ length }) => length), valuesOf(tensor)]).toEqual([[3, 3], [1]]);
    expect(pair.ranks.map(({ state, inFlight }) => [state, inFlight])).toEqual([
      ["OPEN", 0],
      ["OPEN", 0],
    ]);
    await pair.checkInStep();
  });

  test("a refused call takes the same turns, whichever side of a rank refuses it", async () => {
    await using pair = await Pair.connect();
    const message = opCall("send", device, [floats(1)], NO_TENSORS, 10_000, { peer: 1, tag: 3 });
    const works = pair.submit((rank) => [allReduce(), message, rank === 0 ? detached() : misshapen()]);
    for (const work of works.flat()) expect(await errorOf(work)).toBeInstanceOf(Error);
    await pair.checkInStep();
    for (const rank of [0, 1]) {
      // Two turns on one rank, as two refused calls on the other.
      const [own, other] = [pair.ranks[rank] as Backend, pair.ranks[1 - rank] as Backend];
      await Promise.all(own.submit([allReduce(), misshapen()]).map(errorOf));
      await Promise.all([...other.submit([refused()]), ...other.submit([refused()])]);
      await pair.checkInStep();
    }
  });

  test("a call that was refused takes its turn among others, too", async () => {
    await using pair = await Pair.connect();
    const tensors = pair.ranks.map(() => [floats(1, 1), floats(LARGE, 1)]);
    const works = pair.submit((rank) => {
      const [first, second] = (tensors[rank] ?? []).map(allReduce) as [OpCall, OpCall];
      return rank === 0 ? [first, refused(), second] : [first, misshapen(), second];
    });
    const [mixed = [], wrong = []] = works;
    await Promise.all(wrong.map(errorOf));
    expect(mixed.map(({ opType }) => opType)).toEqual([OpType.ALLREDUCE, OpType.UNKNOWN, OpType.ALLREDUCE]);
    await mixed[1];
    // The other rank sent nothing and is three turns ahead: the error has to say so.
    const last = pair.ranks[1]?.submit([allReduce()]) ?? [];
    expect(await errorOf(last[0] as Work<void>)).toMatchObject({
      code: "DESYNC",
      message: expect.stringContaining("rank 1 has refused 3 calls more than rank 0"),
    });
    for (const work of mixed) await errorOf(work);
  });

  test("after a failure each call is refused, those of a batch with the cause if no op has reported it", async () => {
    await using pair = await Pair.connect();
    const [first, second] = pair.ranks as [NativeBackend, NativeBackend];
    second.abort("it has had enough");
    while (first.state === "OPEN") await Bun.sleep(1);
    const errors = await Promise.all(first.submit([allReduce(), allReduce()]).map(errorOf));
    expect(errors).toMatchObject(Array(2).fill({ code: "PEER_LOST", details: { peers: [1] } }));
    const later = await Promise.all(first.submit([allReduce(), misshapen()]).map(errorOf));
    expect(later).toMatchObject([{ code: "GROUP_FAILED" }, { code: "GROUP_FAILED", cause: errors[0] }]);
    await first.close();
    expect(await Promise.all(first.submit([allReduce()]).map(errorOf))).toMatchObject([{ code: "GROUP_CLOSED" }]);
  });
});
