import { expect, test } from "bun:test";
import { describeWithTorch } from "../interop/torch.ts";
import { bandwidths, bandwidthTable, busFactor, meanOf, timingsOfTorch } from "./bandwidth.ts";
import { table } from "./report.ts";
import { timedOps } from "./timing.ts";
import { spawnWith, waysForTwo } from "./two-ranks.ts";

test("bus bandwidths are nccl-tests'", () => {
  // doc/PERFORMANCE.md of nccl-tests: 2(n-1)/n, (n-1)/n, (n-1)/n, 1.
  expect(timedOps.map((op) => busFactor(op, 4))).toEqual([1.5, 0.75, 0.75, 1]);
  expect(timedOps.map((op) => busFactor(op, 1))).toEqual([0, 0, 0, 1]);
  const timing = { op: "allReduce", bytes: 1e9, us: 10_000 } as const;
  expect(bandwidths(timing, 4)).toEqual({ algbw: 100, busbw: 150 });
});

test("a table has the means of the runs and how they compare", () => {
  const run = (us: number) => [{ op: "broadcast", bytes: 1000, us }] as const;
  expect(meanOf([run(10), run(30)])).toEqual([{ op: "broadcast", bytes: 1000, us: 20 }]);
  const [, , row] = bandwidthTable(run(20), run(10), 2).split("\n");
  expect(row).toBe("| broadcast | 1000 | 20.0 | 0.05 | 0.05 | 10.0 | 0.10 | 2.00 × |");
  const [, , alone] = bandwidthTable(run(20), [], 2).split("\n");
  expect(alone).toBe("| broadcast | 1000 | 20.0 | 0.05 | 0.05 |  |  |  |");
});

test("cells cannot break a table", () => {
  expect(table(["a", "b"], [["1|2", "3"]])).toBe("| a | b |\n| --- | --- |\n| 1\\|2 | 3 |");
});

test("two ranks take two GPUs, else what the version of NCCL allows on one", () => {
  const facts = { emulator: false, short: false };
  const names = (devices: readonly string[], nccl: number) =>
    waysForTwo({ ...facts, devices, nccl }).map(({ name }) => name);
  const sockets = "one GPU, a host name for each rank, over sockets";
  expect(names([], 23007)).toEqual([]);
  expect(names(["A", "B"], 22809)).toEqual(["two GPUs"]);
  expect(names(["A"], 22809)).toEqual([sockets]);
  expect(names(["A"], 23003)).toEqual(["one GPU, NCCL_MULTI_RANK_GPU_ENABLE=1", sockets]);
});

test("each rank gets its own value of a variable", () => {
  const { env, runtime = [] } = spawnWith({ NCCL_HOSTID: "host{rank}", OTHER: "1" });
  expect(env?.OTHER).toBe("1");
  const [shell = "", ...rest] = runtime.slice(0, -1);
  const { stdout } = Bun.spawnSync([shell, ...rest, "printenv", "NCCL_HOSTID"], {
    env: { ...process.env, ...env, RANK: "3" },
  });
  expect(stdout.toString()).toBe("host3\n");
  expect(spawnWith({ OTHER: "1" })).toEqual({ env: { OTHER: "1" } });
});

describeWithTorch("PyTorch's timings", (python) => {
  test("are those of all ops and sizes, in the same order", async () => {
    const sizes = [4, 4096];
    const measurement = { devices: ["cpu", "cpu"], env: {}, sizes, seconds: 0.2, limitMs: 60_000 };
    const timings = await timingsOfTorch([python], measurement);
    expect(timings.map(({ op, bytes }) => ({ op, bytes }))).toEqual(
      timedOps.flatMap((op) => sizes.map((bytes) => ({ op, bytes }))),
    );
    for (const { us } of timings) expect(us).toBeGreaterThan(0);
  }, 70_000);
});
