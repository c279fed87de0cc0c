import { describe, expect, test } from "bun:test";
import fake from "../backends/fake/plugin.ts";
import type { OpCall } from "../collectives/index.ts";
import * as dist from "../index.ts";
import { Backend, type BackendContext, type BackendPlugin, BackendType, type Middleware } from "../registry/index.ts";
import { TENSOR_PROTOCOL, type TensorLike } from "../tensor/index.ts";
import { Work } from "../work/index.ts";

/** A backend that carries nothing out, and remembers what it was made from and what was submitted. */
function recorded(anyDevice: boolean | undefined) {
  const contexts: BackendContext[] = [];
  const calls: OpCall[] = [];
  class Recording extends Backend {
    readonly name = "recording";
    override readonly capabilities = fake.capabilities;
    override submit(submitted: readonly OpCall[]): readonly Work<void>[] {
      calls.push(...submitted);
      return submitted.map(({ op }) => Work.completed(undefined, { opType: dist.opTable[op].opType }));
    }
  }
  const plugin: BackendPlugin = {
    ...fake,
    name: "recording",
    type: BackendType.CUSTOM,
    devices: ["cuda"],
    ...(anyDevice !== undefined && { anyDevice }),
    async create(context) {
      contexts.push(context);
      return new Recording(context.rank, context.size);
    },
  };
  return { plugin, contexts, calls };
}

const on = (device: string): TensorLike => ({
  [TENSOR_PROTOCOL]: () => ({ ptr: 64, byteLength: 8, dtype: "float32", device }),
});

/** The default group of the only rank, with a backend for CUDA tensors, and perhaps one for the host's. */
async function alone(
  plugins: readonly BackendPlugin[],
  body: (group: dist.ProcessGroup) => Promise<void>,
  { middleware = [], ...options }: Partial<dist.InitOptions> & { readonly middleware?: readonly Middleware[] } = {},
): Promise<void> {
  const container = dist.createContainer({ overrides: [...plugins] });
  for (const each of middleware) container.register(dist.BACKEND_MIDDLEWARE, { useValue: each });
  const store = new dist.HashStore();
  const backend = options.backend ?? "recording";
  const group = await dist.initProcessGroup({ ...options, backend, container, store, rank: 0, worldSize: 1 });
  try {
    await body(group);
  } finally {
    await dist.destroyProcessGroup();
  }
}

const passOn: Middleware = {
  name: "copies",
  create: () => (next) => (calls) => next(calls.map((call) => ({ ...call }))),
};
const placesOf = (calls: readonly OpCall[]): unknown[] =>
  calls.filter(({ op }) => op !== "refused").map(({ op, device }) => [op, device.type, device.index]);

describe("a backend for any device of a type", () => {
  test.each([
    ["no middleware", []],
    ["middleware that copies calls", [passOn]],
  ])("gets the tensors of all of them if the group is bound to none: %s", async (_, middleware) => {
    const { plugin, contexts, calls } = recorded(true);
    await alone(
      [plugin],
      async (group) => {
        await group.allReduce(on("cuda:1"));
        await group.allReduce(on("cuda:0"));
        await group.barrier();
        await group.barrier({ deviceIds: [3] });
      },
      { middleware },
    );
    expect(contexts.map(({ device }) => device)).toEqual([{ type: "cuda", index: -1 }]);
    expect(placesOf(calls)).toEqual([
      ["allReduce", "cuda", 1],
      ["allReduce", "cuda", 0],
      ["barrier", "cuda", -1],
      ["barrier", "cuda", 3],
    ]);
  });

  test("gets those of the device that the group is bound to, and the barriers", async () => {
    const [{ plugin, contexts, calls }, host] = [recorded(true), recorded(undefined)];
    const cpu: BackendPlugin = { ...host.plugin, name: "host", devices: ["cpu"] };
    const options = { backend: "cpu:host,cuda:recording", deviceId: "cuda:1" };
    await alone(
      [plugin, cpu],
      async (group) => {
        await group.allReduce(on("cuda:1"));
        await group.barrier();
        await group.allReduce(new Float32Array(1));
        const error = await group.allReduce(on("cuda:0")).then(String, String);
        expect(error).toContain('group "0" has no backend for cuda:0 tensors (it has cpu, cuda:1)');
      },
      options,
    );
    expect(contexts.map(({ device }) => device)).toEqual([{ type: "cuda", index: 1 }]);
    expect(placesOf(calls)).toEqual([
      ["allReduce", "cuda", 1],
      ["barrier", "cuda", 1],
    ]);
    expect(placesOf(host.calls)).toEqual([["allReduce", "cpu", 0]]);
  });

  test("without a bound device, barriers are on the CPU if the group has a backend for it, unless they name one", async () => {
    const [{ plugin, calls }, host] = [recorded(true), recorded(undefined)];
    const cpu: BackendPlugin = { ...host.plugin, name: "host", devices: ["cpu"] };
    await alone(
      [plugin, cpu],
      async (group) => {
        await group.barrier();
        await group.barrier({ deviceIds: [2] });
      },
      { backend: "cpu:host,cuda:recording" },
    );
    expect(placesOf(host.calls)).toEqual([["barrier", "cpu", 0]]);
    expect(placesOf(calls)).toEqual([["barrier", "cuda", 2]]);
  });

  test.each([[[]], [[0, 1]], [["0"]], [[-1]], [0]])("deviceIds must be one index: %j", async (deviceIds) => {
    const { plugin, calls } = recorded(true);
    await alone([plugin], async (group) => {
      const error = await group.barrier({ deviceIds: deviceIds as number[] }).then(String, String);
      expect(error).toContain("barrier: deviceIds must be a list of one index of a CUDA device");
    });
    expect(calls.map(({ op }) => op)).toEqual(["refused"]);
  });

  test("a plugin that does not take any device has the first", async () => {
    const { plugin, contexts } = recorded(undefined);
    await alone([plugin], async (group) => {
      const error = await group.allReduce(on("cuda:1")).then(String, String);
      expect(error).toContain("no backend for cuda:1 tensors (it has cuda:0)");
    });
    expect(contexts.map(({ device }) => device)).toEqual([{ type: "cuda", index: 0 }]);
  });
});

describe("messages of batchIsendIrecv", () => {
  test("are marked, also a single one, and others are not", async () => {
    const { plugin, calls } = recorded(true);
    const container = dist.createContainer({ overrides: [plugin] });
    const options = { backend: "recording", container, store: new dist.HashStore(), rank: 0, worldSize: 2 };
    const group = await dist.initProcessGroup(options);
    await group.send(on("cuda:1"), { dst: 1 });
    await Promise.all(dist.batchIsendIrecv([{ op: dist.isend, tensor: on("cuda:1"), peer: 1 }]));
    await group.coalescing(() => void group.recv(on("cuda:1"), { src: 1 }));
    await group.allReduce(on("cuda:1"));
    await dist.destroyProcessGroup();
    const messages = calls.map(({ op, batched }) => [op, batched]);
    expect(messages).toEqual([
      ["send", false],
      ["send", true],
      ["recv", true],
      ["allReduce", false],
    ]);
  });
});

test("a CUDA tensor in a group that has Gloo by default says what is missing", async () => {
  const container = dist.createContainer();
  const group = await dist.initProcessGroup({ container, store: new dist.HashStore(), rank: 0, worldSize: 1 });
  if (group.deviceTypes.includes("cuda")) {
    // This machine has NCCL and a device: nothing is missing.
    expect(group.backendName("cuda")).toBe("nccl");
  } else {
    const error = await group.allReduce(on("cuda:0")).then(String, String);
    expect(error).toMatch(/no backend for cuda tensors \(it has cpu\): (this machine shows no CUDA|the nccl backend)/);
    const other = await dist.newGroup();
    expect(await other?.allReduce(on("cuda:0")).then(String, String)).toContain("(it has cpu): th");
  }
  await dist.destroyProcessGroup();
});
