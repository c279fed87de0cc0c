import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import * as dist from "../../distributed/index.ts";
import { HashStore } from "../../store/index.ts";
import { sparseTensor } from "../../tensor/index.ts";
import type { Work } from "../../work/index.ts";

const floats = () => new Float32Array(2);
const sparse = () => sparseTensor({ indices: [[0]], values: new Float32Array(1), shape: [3] });

beforeAll(async () => {
  const place = { store: new HashStore(), rank: 0, worldSize: 2, options: { mode: "solo" } } as const;
  await dist.initProcessGroup({ backend: "fake", ...place });
});
afterAll(() => dist.destroyProcessGroup());

/** Each op with valid arguments and one unknown option. */
const calls: readonly [string, (wrong: object) => Work<unknown>][] = [
  ["allReduce", (wrong) => dist.allReduce(floats(), wrong)],
  ["allReduce", (wrong) => dist.allReduce(sparse(), wrong)],
  ["broadcast", (wrong) => dist.broadcast(floats(), { src: 0, ...wrong })],
  ["allGatherIntoTensor", (wrong) => dist.allGatherIntoTensor(new Float32Array(4), floats(), wrong)],
  ["send", (wrong) => dist.send(floats(), { dst: 1, ...wrong })],
  ["recv", (wrong) => dist.recv(floats(), wrong)],
  ["barrier", (wrong) => dist.barrier(wrong)],
  ["monitoredBarrier", (wrong) => dist.monitoredBarrier(wrong)],
  ["allGatherObject", (wrong) => dist.allGatherObject(1, wrong)],
  ["gatherObject", (wrong) => dist.gatherObject(1, { dst: 0, ...wrong })],
  ["broadcastObject", (wrong) => dist.broadcastObject(1, { src: 0, ...wrong })],
  ["scatterObject", (wrong) => dist.scatterObject([1, 2], { src: 0, ...wrong })],
  ["sendObject", (wrong) => dist.sendObject(1, { dst: 1, ...wrong })],
  ["recvObject", (wrong) => dist.recvObject(wrong)],
  ["coalescing", (wrong) => dist.coalescing(() => {}, wrong)],
];

describe("an unknown option", () => {
  for (const [op, call] of calls) {
    test(`${op}: is refused by name, unless it has no value`, async () => {
      expect(call({ timout: 5 }).exception()).toMatchObject({
        name: "InvalidArgumentError",
        details: { argument: "timout" },
        message: expect.stringContaining(`${op}: unknown option timout (known are `),
      });
      // A rank without real peers receives no object.
      const message = await call({ timout: undefined }).then(
        () => "",
        (error: unknown) => (error as Error).message,
      );
      expect(message).not.toContain("unknown option");
    });
  }

  test("batchIsendIrecv: so is an unknown field of a message", () => {
    const message = { op: dist.isend, tensor: floats(), peer: 1, tga: 3 };
    const [work] = dist.batchIsendIrecv([message]);
    expect(work?.exception()?.message).toBe(
      "batchIsendIrecv: ops[0] has the unknown field tga (known are op, tensor, peer, groupPeer, tag, group, timeout)",
    );
  });
});
