import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { DebugLevel, getDebugLevel, setDebugLevel } from "../environment/index.ts";
import type { Logger as LogOutput } from "../registry/index.ts";
import { localRanks } from "../testing/index.ts";
import { DistributedDataParallel } from "./distributed-data-parallel.ts";
import { Logger } from "./logger.ts";
import { Parameter } from "./parameter.ts";
import { Reducer } from "./reducer.ts";

const floats = (...values: number[]) => Float32Array.from(values);
const names = ["weight", "bias"];
const model = () => ({ parameters: names.map((name) => ({ name, data: floats(1, 2, 3) })) });

/** An output that keeps lines. */
class Lines implements LogOutput {
  readonly info: (line: string) => void;
  readonly all: string[] = [];

  constructor() {
    this.info = (line) => void this.all.push(line);
  }

  debug = (line: string) => this.#unexpected(line);
  warn = (line: string) => this.#unexpected(line);
  error = (line: string) => this.#unexpected(line);

  #unexpected(line: string): void {
    throw new Error(`an unexpected line: ${line}`);
  }
}

describe("lines", () => {
  let before = DebugLevel.OFF;
  beforeEach(() => {
    before = getDebugLevel();
  });
  afterEach(() => setDebugLevel(before));

  async function linesAt(level: DebugLevel, iterations: number): Promise<readonly string[]> {
    const lines = new Lines();
    await localRanks(1, async ({ group }) => {
      setDebugLevel(level);
      const reducer = new Reducer([new Parameter({ name: "weight", data: floats(1, 2) })], [[0]], [1], group);
      reducer.setDdpRuntimeLoggingSampleRate(1);
      const logger = new Logger(reducer, lines);
      logger.setConstructionDataAndLog({ moduleName: "Tiny" });
      for (let i = 0; i < iterations; i++) {
        logger.setRuntimeStatsAndLog();
        reducer.prepareForForward();
        await reducer.rebuildBuckets();
        reducer.prepareForBackward();
        for (const parameter of reducer.parameters) parameter.grad = floats(1, 2);
        reducer.autogradHook(0);
        await reducer.finalizeBackward();
      }
    });
    return lines.all;
  }

  test("at debug level INFO: of the model, and after 10, 20 and 50 measured iterations", async () => {
    const lines = await linesAt(DebugLevel.INFO, 60);
    expect(lines[0]).toBe("[Rank 0] DDP Initialized with world_size: 1, module_name: Tiny, num_parameter_tensors: 1");
    expect(lines.slice(1).map((line) => line.split(" avg")[0])).toEqual(
      [10, 20, 50].map((iteration) => `[Rank 0] DDP: iteration ${iteration}`),
    );
    for (const line of lines.slice(1)) {
      expect(line).toMatch(
        /avg_forward_compute_time: \d+, avg_backward_compute_time: \d+, avg_backward_comm_time: \d+, avg_backward_compute_comm_overlap_time: \d+$/,
      );
    }
    expect(await linesAt(DebugLevel.INFO, 11)).toHaveLength(2);
  });

  test("at debug level OFF: none", async () => {
    expect(await linesAt(DebugLevel.OFF, 11)).toEqual([]);
  });
});

describe("figures", () => {
  test("are those of the iteration: each between the time that was slept and the time that has passed", async () => {
    const [FORWARD, BACKWARD, EXCHANGE] = [15, 40, 25];
    await localRanks(2, async () => {
      const ddp = await DistributedDataParallel.create(model(), { bucketCapMbList: [1e-6] });
      ddp.registerCommHook(undefined, async (_, bucket) => {
        await Bun.sleep(EXCHANGE);
        await bucket.group.allReduce(bucket.dense());
        return bucket.buffer();
      });
      // Of a sleep, timers may be late, and early by one millisecond.
      const between = (value: number | undefined, slept: number, passed: number) => {
        expect(value).toBeGreaterThanOrEqual((slept - 2) * 1e6);
        expect(value).toBeLessThanOrEqual((passed + 2) * 1e6);
      };
      const began = performance.now();
      await ddp.forward();
      const pass = ddp.backward();
      await Bun.sleep(FORWARD);
      pass.ready("bias", floats(1, 2, 3));
      const first = performance.now();
      await Bun.sleep(BACKWARD);
      pass.ready("weight", floats(1, 2, 3));
      const last = performance.now();
      await pass.finish();
      const ended = performance.now();
      const { times } = ddp.reducer.timer;
      between(times.forwardCompute, FORWARD, first - began);
      between(times.backwardCompute, BACKWARD, last - began - FORWARD);
      between(times.overlap, BACKWARD, last - began - FORWARD);
      between(times.waited, EXCHANGE, ended - last);
      between(times.backwardComm, BACKWARD + EXCHANGE, ended - began - FORWARD);
      expect(times.backwardComm).toBeCloseTo(times.overlap + times.waited, -2);
      // The library that exchanges is not known to a hook.
      expect(times.hidden).toBe(-1);
      expect(ddp.getDdpLoggingData().intsMap.backward_comm_time).toBeUndefined();
      await ddp.forward();
      expect(ddp.getDdpLoggingData().intsMap).toMatchObject({
        iteration: 1,
        forward_compute_time: times.forwardCompute,
        avg_forward_compute_time: times.forwardCompute,
        backward_compute_time: times.backwardCompute,
        backward_comm_time: times.backwardComm,
        backward_compute_comm_overlap_time: times.overlap,
        forward_compute_time_start: times.forwardStart,
        backward_compute_time_start: times.backwardStart,
        backward_compute_time_end: times.computeEnd,
        backward_comm_time_start: times.commStart,
        backward_comm_time_end: times.commEnd,
      });
      expect(times.backwardStart - times.forwardStart).toBeCloseTo(times.forwardCompute, -4);
    });
  });

  test("averages are over the measured iterations", async () => {
    await localRanks(1, async () => {
      const ddp = await DistributedDataParallel.create(model());
      const waited: number[] = [];
      for (let i = 0; i < 4; i++) {
        await ddp.step(async (pass) => {
          await Bun.sleep(2 * i);
          for (const name of names) pass.ready(name, floats(1, 2, 3));
        });
        waited.push(ddp.reducer.timer.times.forwardCompute);
      }
      await ddp.forward();
      const average = waited.reduce((sum, ns) => sum + ns, 0) / waited.length;
      // Each is rounded to a nanosecond.
      expect(Math.abs((ddp.getDdpLoggingData().intsMap.avg_forward_compute_time ?? 0) - average)).toBeLessThan(4);
    });
  });

  test("count the exchanges of the iteration", async () => {
    await localRanks(1, async () => {
      const ddp = await DistributedDataParallel.create(model(), { bucketCapMbList: [1e-6] });
      for (let i = 0; i < 3; i++) {
        await ddp.step((pass) => {
          expect(ddp.getDdpLoggingData().intsMap.num_buckets_reduced).toBe(i === 0 ? undefined : 2);
          for (const name of names) pass.ready(name, floats(1, 2, 3));
        });
      }
    });
  });

  test("of parameters: what was unused, in bytes, and the order in which gradients came", async () => {
    await localRanks(1, async () => {
      const ddp = await DistributedDataParallel.create(model(), { findUnusedParameters: true });
      const sizes: (number | undefined)[] = [];
      const orders: (string | undefined)[] = [];
      for (const used of [names, ["bias"], [], ["bias", "weight"], names]) {
        await ddp.step((pass) => {
          // Of the iteration before.
          const { intsMap, strsMap } = ddp.getDdpLoggingData();
          sizes.push(intsMap.unused_parameter_size);
          orders.push(strsMap.prev_iteration_grad_ready_order_indices);
          for (const name of used) pass.ready(name, floats(1, 2, 3));
        });
      }
      expect(sizes).toEqual([undefined, 0, 12, 24, 0]);
      expect(orders).toEqual([undefined, "0, 1", "1", "", "1, 0"]);
    });
  });
});
