import { describe, expect, test } from "bun:test";
import type { OpCall } from "../collectives/index.ts";
import { DistBackendError } from "../errors/index.ts";
import * as dist from "../index.ts";
import { TENSOR_PROTOCOL, type TensorLike, tensor } from "../tensor/index.ts";
import { localRanks } from "../testing/index.ts";
import { failureOf, type Work } from "../work/index.ts";
import { callOf, fakeContext, fakeSubmit } from "./fixtures/fake-group.ts";
import { nanCheck } from "./nan-check.ts";

async function checked() {
  const group = fakeContext();
  const lane = fakeSubmit();
  const layer = await nanCheck.create(group.context);
  return { ...group, ...lane, check: layer(lane.submit) };
}

const good = (): Float32Array => Float32Array.of(1, Infinity, 3);
const bad = (): Float32Array => Float32Array.of(1, 2, Number.NaN);
const errorsOf = (works: readonly Work<void>[]) => works.map((work) => failureOf(work));

describe("nanCheck", () => {
  test("passes on calls without NaN, unchanged", async () => {
    const { check, batches, works, failures } = await checked();
    const batch = [callOf("allReduce", { outputs: [good()] }), callOf("barrier"), callOf("refused")];
    expect(check(batch)).toEqual(works);
    expect(batches[0]).toBe(batch);
    expect(failures).toEqual([]);
  });

  test("refuses a call, says where, and fails the group", async () => {
    const { check, batches, failures } = await checked();
    const [error, ...more] = errorsOf(check([callOf("allReduce", { outputs: [bad()] })]));
    expect(more).toEqual([]);
    expect(error).toBeInstanceOf(DistBackendError);
    expect(error).toMatchObject({
      code: "NAN_FOUND",
      details: {
        op: "allReduce",
        seq: 1,
        argument: "tensor",
        tensor: 0,
        element: 2,
        rank: 1,
        group: "pair",
        backend: "memory",
      },
    });
    expect(error?.message).toBe(
      'allReduce #1 on group "pair" (memory, rank 1 of 2): tensor has a NaN at element 2 of 3 (float32); nothing was sent, and the group has failed',
    );
    expect(failures).toEqual(error === undefined ? [] : [error]);
    expect(batches).toEqual([]);
  });

  test("nothing of a batch is sent", async () => {
    const { check, batches, failures } = await checked();
    const works = check([
      callOf("send", { inputs: [good()], peer: 0 }),
      callOf("reduce", { outputs: [bad()], root: 0 }),
    ]);
    const [first, second] = errorsOf(works);
    expect(first).toBe(second);
    expect(new Set(works).size).toBe(2);
    expect([batches.length, failures.length]).toEqual([0, 1]);
  });

  const foreign: TensorLike = {
    [TENSOR_PROTOCOL]: () => ({ ptr: 8, byteLength: 8, dtype: "float32", device: "cuda" }),
  };
  const cases: [string, OpCall, string | undefined][] = [
    ["a list, in place", callOf("allReduceCoalesced", { outputs: [good(), bad()] }), "tensors[1]"],
    ["the input", callOf("allGather", { inputs: [bad()], outputs: [bad(), bad()] }), "input"],
    ["the output alone", callOf("allGather", { inputs: [good()], outputs: [bad(), bad()] }), undefined],
    ["an input of several", callOf("allToAll", { inputs: [good(), bad()], outputs: [good(), good()] }), "inputs[1]"],
    ["a root's inputs", callOf("scatter", { inputs: [good(), bad()], outputs: [good()], root: 1 }), "inputs[1]"],
    ["what is sent", callOf("send", { inputs: [bad()], peer: 0 }), "tensor"],
    ["what is received", callOf("recv", { outputs: [bad()], peer: 0 }), undefined],
    ["a root's broadcast", callOf("broadcast", { outputs: [bad()], root: 1 }), "tensor"],
    ["another rank's broadcast", callOf("broadcast", { outputs: [bad()], root: 0 }), undefined],
    ["a reduce to another rank", callOf("reduce", { outputs: [bad()], root: 0 }), "tensor"],
    ["what is on a device", callOf("allReduce", { outputs: [foreign] }), undefined],
    [
      "complex numbers",
      callOf("broadcast", { outputs: [tensor([0, Number.NaN], { dtype: "complex64" })], root: 1 }),
      "tensor",
    ],
    ["sparse values", callOf("allReduceSparse", { inputs: [BigInt64Array.of(-1n), bad()], outputs: [] }), "values"],
  ];
  test.each(cases)("%s", async (_, call, argument) => {
    const { check, batches } = await checked();
    const [work] = check([call]);
    const error = work && failureOf(work);
    expect([error?.details.argument, batches.length]).toEqual([argument, argument === undefined ? 1 : 0]);
  });
});

describe("a group with nanCheck", () => {
  test("fails on all ranks if one of them has a NaN", async () => {
    const container = dist.createContainer();
    container.register(dist.BACKEND_MIDDLEWARE, { useValue: dist.nanCheck });
    const ends = await localRanks(
      3,
      async ({ rank, store, worldSize }) => {
        const group = await dist.initProcessGroup({ backend: "fake", container, store, rank, worldSize });
        await dist.allReduce(good());
        const error = await dist.allReduce(rank === 1 ? bad() : good()).catch((reason: unknown) => reason);
        const next = await dist.barrier().catch((reason: unknown) => reason);
        return { error: error as dist.DistError, next: next as dist.DistError, state: group.state };
      },
      { init: false },
    );
    expect(ends[1]?.error.code).toBe("NAN_FOUND");
    for (const { error, next, state } of ends) {
      expect(error.message).toContain("(fake, rank 1 of 3): tensor has a NaN at element 2 of 3 (float32)");
      expect([next.code, state]).toEqual(["GROUP_FAILED", "FAILED"]);
    }
  });

  test("names the call that the user made, in a coalescing and in an op of several steps", async () => {
    const container = dist.createContainer();
    container.register(dist.BACKEND_MIDDLEWARE, { useValue: dist.nanCheck });
    const seen = await localRanks(
      1,
      async ({ store }) => {
        const init = { backend: "fake", container, store, rank: 0, worldSize: 1 };
        const group = await dist.initProcessGroup(init);
        const works: dist.Work<unknown>[] = [];
        const whole = group.coalescing(() => {
          works.push(dist.allReduce(good()), dist.broadcast(bad(), { src: 0 }));
        });
        works.push(whole);
        await whole.catch(() => {});
        return works.map((work) => work.exception()?.message.split(":")[0]);
      },
      { init: false },
    );
    expect(seen).toEqual([Array(3).fill('broadcast #2 on group "0" (fake, rank 0 of 1)')]);
  });
});

describe("the option checkForNan", () => {
  /** Error codes of an op with a NaN: in the default group, a new group without the option, and one with `false`. */
  async function codesWith(options: Partial<dist.InitOptions>): Promise<(string | undefined)[]> {
    const [codes] = await localRanks(
      1,
      async ({ store }) => {
        const made = await dist.initProcessGroup({ backend: "fake", ...options, store, rank: 0, worldSize: 1 });
        const parts = await dist.splitGroup([[0]]);
        const groups = [made, await dist.newGroup(), parts, await dist.newGroup([0], { checkForNan: false })];
        const codeOf = (group: dist.ProcessGroup | null) =>
          dist.allReduce(bad(), { group }).then(
            () => undefined,
            (error: unknown) => (error as dist.DistError).code,
          );
        return Promise.all(groups.map(codeOf));
      },
      { init: false },
    );
    return codes ?? [];
  }

  const on = ["NAN_FOUND", "NAN_FOUND", "NAN_FOUND", undefined];
  const off = [undefined, undefined, undefined, undefined];
  test("applies to the group and those made of it", async () => {
    expect(await codesWith({ checkForNan: true })).toEqual(on);
    expect(await codesWith({})).toEqual(off);
  });

  test.each(["TORCH_DIST_NAN_CHECK", "TORCH_NCCL_NAN_CHECK"])("is on by default with %s", async (name) => {
    process.env[name] = "1";
    try {
      expect(await codesWith({})).toEqual(on);
      expect(await codesWith({ checkForNan: false })).toEqual(off);
      process.env[name] = "perhaps";
      expect(String(await codesWith({}).catch(String))).toContain(`${name} must be one of true`);
    } finally {
      delete process.env[name];
    }
  });

  test("is refused unless it is a boolean", async () => {
    const codes = await codesWith({ checkForNan: 1 as unknown as boolean }).catch(String);
    expect(codes).toContain("initProcessGroup: checkForNan must be true or false, got number 1");
  });

  test("checks once, also where the middleware is registered", async () => {
    const container = dist.createContainer();
    container.register(dist.BACKEND_MIDDLEWARE, { useValue: dist.nanCheck });
    expect(await codesWith({ container, checkForNan: true })).toEqual([
      "NAN_FOUND",
      "NAN_FOUND",
      "NAN_FOUND",
      "NAN_FOUND",
    ]);
  });

  test.each([
    ["float16", 0x7e00, 2],
    ["bfloat16", 0xffc0, 2],
    ["float8_e4m3fn", 0x7f, 1],
    ["float8_e5m2", 0xfe, 1],
  ] as const)("finds a NaN of %s", async (dtype, bits, bytes) => {
    const { check } = await checked();
    const data = bytes === 2 ? new Uint16Array(9) : new Uint8Array(9);
    data[7] = bits;
    const whole = tensor(new Uint8Array(data.buffer), { dtype });
    const [work] = check([callOf("broadcast", { outputs: [whole], root: 1 })]);
    expect(work && failureOf(work)?.details).toMatchObject({ tensor: 0, element: 7, seq: 1 });
  });
});
