import { afterEach, describe, expect, test } from "bun:test";
import * as dist from "../../index.ts";

async function pretend(options: Record<string, unknown> = {}, rank = 1, worldSize = 4): Promise<dist.ProcessGroup> {
  return dist.initProcessGroup({
    backend: "fake",
    store: new dist.HashStore(),
    rank,
    worldSize,
    options: { mode: "solo", ...options },
  });
}

const of = (...values: number[]) => Float32Array.from(values);
const empty = (count: number, length: number) => Array.from({ length: count }, () => new Float32Array(length));

afterEach(async () => {
  if (dist.isInitialized()) await dist.destroyProcessGroup().catch(() => {});
});

describe("a rank without peers", () => {
  test("has the rank and world size that it was given", async () => {
    await pretend({}, 3, 1_000);
    expect([dist.getRank(), dist.getWorldSize(), dist.getBackend()]).toEqual([3, 1_000, "fake"]);
  });

  test("receives the documented results, at once", async () => {
    await pretend();
    const tensor = of(1, 2);
    expect(dist.allReduce(tensor).wait()).toBe(true);
    dist.allReduce([tensor]).wait();
    dist.broadcast(tensor, { src: 0 }).wait();
    dist.reduce(tensor, { dst: 0 }).wait();
    expect(tensor).toEqual(of(1, 2));

    const outputs = empty(4, 2);
    dist.allGather(outputs, tensor).wait();
    expect(outputs).toEqual([tensor, tensor, tensor, tensor]);
    const whole = new Float32Array(8);
    dist.allGatherIntoTensor(whole, tensor).wait();
    expect(whole).toEqual(of(1, 2, 1, 2, 1, 2, 1, 2));
    const gathered = empty(4, 2);
    dist.gather(tensor, { dst: 1, outputs: gathered }).wait();
    expect(gathered).toEqual(outputs);
    expect(await dist.gather(tensor, { dst: 0 })).toBeUndefined();

    const inputs = [of(1), of(2), of(3), of(4)];
    const output = of(0);
    dist.scatter(output, { src: 0 }).wait();
    expect(output).toEqual(of(0));
    dist.scatter(output, { src: 1, inputs }).wait();
    expect(output).toEqual(of(2));
    dist.reduceScatter(output, inputs.toReversed()).wait();
    expect(output).toEqual(of(3));
    dist.reduceScatterTensor(output, of(5, 6, 7, 8)).wait();
    expect(output).toEqual(of(6));

    const received = empty(4, 1);
    dist.allToAll(received, inputs).wait();
    expect(received).toEqual(inputs);
    const single = new Float32Array(4);
    dist.allToAllSingle(single, of(1, 2, 3, 4)).wait();
    expect(single).toEqual(of(1, 2, 3, 4));
    dist.allToAllSingle(single, of(1, 2, 3, 4), { inputSplits: [1, 1, 1, 1], outputSplits: [2, 1, 0, 1] }).wait();
    expect(single).toEqual(of(1, 2, 1, 1));

    dist.barrier().wait();
    dist.monitoredBarrier().wait();
    dist.send(tensor, { dst: 0 }).wait();
    expect(dist.recv(tensor, { src: 2 }).sourceRank()).toBe(2);
    expect(dist.recv(tensor).sourceRank()).toBe(0);
  });

  test("fails every collective, but no message, with errorOnCollective", async () => {
    const group = await pretend({ errorOnCollective: true });
    for (let seq = 1; seq <= 2; seq++) {
      const error = await dist.barrier().catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ name: "DistBackendError", code: "INJECTED_FAILURE", details: { seq } });
    }
    await dist.send(of(1), { dst: 0 });
    expect(group.state).toBe("OPEN");
  });

  test("fails the collective that failAt names, and the group with it", async () => {
    const group = await pretend({ failAt: 2 });
    await dist.barrier();
    expect(await dist.allReduce(of(1)).catch((thrown: unknown) => thrown)).toMatchObject({ code: "INJECTED_FAILURE" });
    expect(group.state).toBe("FAILED");
    expect(await dist.barrier().catch((thrown: unknown) => thrown)).toMatchObject({ code: "GROUP_FAILED" });
  });

  test("is delayed by delayMs, for await and for wait()", async () => {
    await pretend({ delayMs: 30 });
    const started = performance.now();
    const work = dist.barrier();
    expect(work.isCompleted()).toBe(false);
    await work;
    expect(performance.now() - started).toBeGreaterThanOrEqual(28);
    const waited = dist.barrier();
    expect(() => waited.wait({ timeout: 5 })).toThrow(dist.DistTimeoutError);
    expect(waited.isCompleted()).toBe(false);
    waited.wait();
    expect(performance.now() - started).toBeGreaterThanOrEqual(56);
  });

  test("times out when the delay is longer than the limit", async () => {
    const group = await pretend({ delayMs: 10_000 });
    const error = await dist.barrier({ timeout: 20 }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: "DistTimeoutError", code: "OP_TIMEOUT" });
    expect(group.state).toBe("FAILED");
  });

  test("can be aborted and closed with work in flight", async () => {
    const group = await pretend({ delayMs: 10_000 });
    const work = dist.barrier();
    group.abort("enough");
    expect(await work.catch((thrown: unknown) => thrown)).toMatchObject({ code: "ABORTED" });
    await group.close();
    const next = await pretend({ delayMs: 10_000 });
    const other = dist.barrier();
    await next.close();
    expect(await other.catch((thrown: unknown) => thrown)).toMatchObject({ code: "ABORTED" });
  });

  const wrong: readonly (readonly [Record<string, unknown>, string])[] = [
    [{ mode: "both" }, "mode"],
    [{ colour: 1 }, "colour"],
    [{ delayMs: -1 }, "delayMs"],
    [{ failAt: 0 }, "failAt"],
    [{ errorOnCollective: 1 }, "errorOnCollective"],
    [{ seed: 1 }, "seed"],
    [{ mode: "local", delayMs: 1 }, "delayMs"],
    [{ mode: "local", seed: 0.5 }, "seed"],
  ];
  test.each(wrong)("refuses the options %p", async (options, argument) => {
    const error = await pretend(options).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: "InvalidArgumentError", details: { argument } });
  });
});
