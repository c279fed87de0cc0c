import { expect, setDefaultTimeout, test } from "bun:test";
import { DistContext, withContext } from "../../distributed/dist-context.ts";
import * as dist from "../../index.ts";
import { OpLayout } from "../../native/abi.generated.ts";
import { loadShim } from "../../native/index.ts";
import { describeGloo } from "../gloo/fixtures/availability.ts";
import gloo from "../gloo/plugin.ts";
import { NativeBackend } from "./native-backend.ts";

setDefaultTimeout(60_000);

/** A user's store that violates the contract for the keys of the backend. */
class WrongStore extends dist.HashStore {
  readonly #wrong: "get" | "set" | "neither";

  constructor(wrong: "get" | "set" | "neither") {
    super();
    this.#wrong = wrong;
  }

  override set(key: string, value: dist.StoreValue, options?: dist.StoreCallOptions): Promise<void> {
    if (this.#wrong === "set" && key.includes("cpu/")) throw new TypeError("this store is not async");
    return super.set(key, value, options);
  }

  override async get(key: string, options?: dist.StoreCallOptions): Promise<Uint8Array> {
    const value = await super.get(key, options);
    return this.#wrong === "get" && key.includes("cpu/") ? (value.toString() as unknown as Uint8Array) : value;
  }
}

describeGloo("a store that does not keep to its contract", () => {
  test.each([
    ["set", "this store is not async"],
    ["get", "a value of type string"],
    ["neither", undefined],
  ] as const)("%s: the group fails by a rejection that says so", async (wrong, reason) => {
    const store = new WrongStore(wrong);
    const ranks = [0, 1].map((rank) =>
      withContext(new DistContext(), async () => {
        await dist.initProcessGroup({ backend: "gloo", store, rank, worldSize: 2, timeout: "20s" });
        await dist.allReduce(new Float32Array(1));
        await dist.destroyProcessGroup();
      }),
    );
    for (const end of await Promise.allSettled(ranks)) {
      if (reason === undefined) expect(end.status).toBe("fulfilled");
      else expect(end).toMatchObject({ reason: { message: expect.stringContaining(reason) } });
    }
  });
});

describeGloo("the op record", () => {
  test("holds nothing of the previous op", async () => {
    const records: { op: number; reduceOp: number; factor: number; peer: number; tag: number }[] = [];
    const note = (bytes: ArrayBuffer): void => {
      const view = new DataView(bytes);
      records.push({
        op: view.getUint32(OpLayout.opcode, true),
        reduceOp: view.getUint32(OpLayout.reduceOp, true),
        factor: view.getFloat64(OpLayout.premulFactor, true),
        peer: view.getInt32(OpLayout.peer, true),
        tag: view.getUint32(OpLayout.tag, true),
      });
    };
    const shim = loadShim({ name: "gloo" });
    const { c10d_submit: submit, c10d_submit_one: submitOne } = shim.symbols;
    const symbols: typeof shim.symbols = {
      ...shim.symbols,
      c10d_submit: (group, ops, count) => {
        note(ops as ArrayBuffer);
        return submit(group, ops, count);
      },
      c10d_submit_one: (group, op, input, output) => {
        note(op as ArrayBuffer);
        return submitOne(group, op, input, output);
      },
    };
    const create = (context: dist.BackendContext) =>
      NativeBackend.connect({ ...shim, symbols }, context, { host: "127.0.0.1" }, gloo.capabilities);
    const container = dist.createContainer({ overrides: [{ ...gloo, create }] });
    const store = new dist.HashStore();
    const group = await dist.initProcessGroup({ backend: "gloo", container, store, rank: 0, worldSize: 1 });
    await group.reduce(new Float32Array(1), { dst: 0, op: dist.ReduceOp.MAX });
    await group.allGatherIntoTensor(new Float32Array(1), new Float32Array(1));
    await group.barrier();
    await dist.destroyProcessGroup();
    const { MAX, SUM } = dist.ReduceOp;
    expect(records).toEqual([
      { op: dist.OpType.REDUCE, reduceOp: MAX.code, factor: 1, peer: 0, tag: 0 },
      { op: dist.OpType.ALLGATHER_BASE, reduceOp: SUM.code, factor: 1, peer: -1, tag: 0 },
      { op: dist.OpType.BARRIER, reduceOp: SUM.code, factor: 1, peer: -1, tag: 0 },
    ]);
  });
});

describeGloo("the time of an op", () => {
  test("is the time in the native library if timing is enabled, else the time from the call to the end", async () => {
    await withContext(new DistContext(), async () => {
      await using group = await dist.initProcessGroup({
        backend: "gloo",
        store: new dist.HashStore(),
        rank: 0,
        worldSize: 1,
      });
      const durationOf = async (): Promise<number> => {
        const work = group.allReduce(new Float32Array(1));
        Bun.sleepSync(30);
        await work;
        return work.info().activeDuration;
      };
      expect(await durationOf()).toBeGreaterThan(29);
      group.enableCollectivesTiming();
      expect(await durationOf()).toBeWithin(0, 29);
    });
  });
});
