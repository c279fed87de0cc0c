import "reflect-metadata";
import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as dist from "../index.ts";
import { unpickle } from "../pickle/index.ts";
import { localRanks } from "../testing/index.ts";

const folder = mkdtempSync(join(tmpdir(), "c10d-dump-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("dumpTrace()", () => {
  test("gives the ops of the rank that calls it, as JSON or as a pickle", async () => {
    await localRanks(2, async ({ rank }) => {
      await dist.allReduce(new Float32Array(rank + 1).subarray(0, 1));
      const dump = JSON.parse(dist.dumpTrace());
      expect(dump.bun_c10d.rank).toBe(rank);
      expect(dump.entries).toHaveLength(1);
      expect(dump.entries[0].frames[0].filename).toBe(import.meta.path);
      const pickled = unpickle(dist.dumpTrace({ format: "pickle", includeStackTraces: false }));
      expect((pickled as Map<string, unknown[]>).get("entries")).toHaveLength(1);
      await dist.barrier();
    });
  });

  test("counts the ops of a group that uses others in turn, whose own numbers repeat", async () => {
    await localRanks(2, async ({ rank }) => {
      const lanes = [await dist.newGroup([0, 1]), await dist.newGroup([0, 1])];
      const group = dist.roundRobinProcessGroups(lanes.filter((lane) => lane !== null));
      for (let i = 0; i < 3; i++) await group.allReduce(new Float32Array(4));
      await group.barrier();
      const batch = dist.coalescing(
        () => {
          void group.broadcast(new Float32Array(2), { src: 0 });
          void group.broadcast(new Float32Array(3), { src: 0 });
        },
        { group },
      );
      await batch;
      const { entries } = JSON.parse(dist.dumpTrace());
      type Entry = Record<"profiling_name" | "collective_seq_id" | "input_sizes", unknown>;
      const brief = entries.map((each: Entry) => [each.profiling_name, JSON.stringify(each.input_sizes)]);
      expect(brief.slice(0, 4)).toEqual([
        ["gloo:all_reduce", "[[4]]"],
        ["gloo:all_reduce", "[[4]]"],
        ["gloo:all_reduce", "[[4]]"],
        ["gloo:barrier", "[]"],
      ]);
      expect(brief.slice(4)).toEqual([
        ["gloo:broadcast", "[[2]]"],
        ["gloo:broadcast", "[[3]]"],
      ]);
      const numbers = entries.map((each: Entry) => each.collective_seq_id);
      expect(new Set(numbers).size).toBe(6);
      expect(numbers.slice(0, 4)).toEqual([1, 2, 3, 4]);
      // The same on both ranks.
      const sum = Float64Array.from(numbers);
      await dist.allReduce(sum, { op: dist.ReduceOp.MAX });
      expect(Array.from(sum)).toEqual(numbers);
      expect(rank).toBeLessThan(2);
    });
  });

  test("has the calls that made its groups, as JSON and as a pickle", async () => {
    await localRanks(2, async () => {
      await dist.newGroup([1]);
      await dist.splitGroup([[0], [1]]);
      const { group_calls: calls } = JSON.parse(dist.dumpTrace()).bun_c10d;
      expect(calls.map((each: Record<string, unknown>) => [each.call, each.group, each.ranks, each.state])).toEqual([
        ["initProcessGroup", "0", [0, 1], "completed"],
        ["newGroup", "1", [1], "completed"],
        ["splitGroup", "0:split:1", [dist.getRank()], "completed"],
      ]);
      expect(calls[1].frames[0].filename).toBe(import.meta.path);
      const pickled = unpickle(dist.dumpTrace({ format: "pickle" })) as Map<string, Map<string, unknown[]>>;
      expect(pickled.get("bun_c10d")?.get("group_calls")).toHaveLength(3);
    });
  });

  test("of a rank that has met the others again leaves out what it did before, and names its world", async () => {
    const store = new dist.HashStore();
    const container = dist.createContainer();
    const worlds: string[] = [];
    for (let meeting = 0; meeting < 2; meeting++) {
      await using group = await dist.initProcessGroup({ backend: "fake", store, rank: 0, worldSize: 1, container });
      const part = await dist.newGroup([0]);
      for (let i = 0; i <= meeting; i++) await group.allReduce(new Float32Array(1));
      await part?.barrier();
      const dump = JSON.parse(dist.dumpTrace());
      expect(dump.entries.map(({ process_group }: { process_group: string[] }) => process_group[0])).toEqual(
        ["0", "0", "1"].slice(1 - meeting),
      );
      worlds.push(dump.bun_c10d.world);
      expect(Object.keys(dump.pg_config)).toEqual(["0", "1"]);
    }
    expect(new Set(worlds).size).toBe(2);
    expect(worlds.join(" ")).toMatch(/^(\w{16})\/0\/0 \1\/0\/1$/);
  });

  test.each([[5], [null], [{ format: "xml" }], [{ active: true }]])("refuses %p", (options) => {
    expect(() => dist.dumpTrace(options as never)).toThrow(dist.InvalidArgumentError);
  });
});

/** Runs two ranks of which rank 1 is late, in a process with this environment. */
function failingJob(env: Record<string, string>) {
  const index = (path: string) => JSON.stringify(new URL(path, import.meta.url).pathname);
  const script = `
    import * as dist from ${index("../index.ts")};
    import { localRanks } from ${index("../testing/index.ts")};
    await localRanks(2, async ({ rank }) => {
      await dist.barrier();
      if (rank === 0) console.log(await dist.allReduce(new Float32Array(3), { timeout: 30 }).catch(({ code }) => code));
      else await Bun.sleep(200);
    });
  `;
  return Bun.spawnSync([process.execPath, "-e", script], { env: { ...process.env, C10D_LOG_LEVEL: "warn", ...env } });
}

test("a group whose ranks made different calls, and which goes on, writes the flight recorder, too", () => {
  const traces = join(folder, "desync");
  const script = `
    import * as dist from ${JSON.stringify(new URL("../index.ts", import.meta.url).pathname)};
    const error = () => new dist.DistBackendError("the calls differ", { code: "DESYNC" });
    const container = dist.createContainer();
    container.register(dist.BACKEND_MIDDLEWARE, { useValue: {
      name: "differs",
      create: () => () => (calls) => calls.map(() => dist.Work.rejected(error(), { opType: dist.OpType.BARRIER })),
    } });
    const store = new dist.HashStore();
    const group = await dist.initProcessGroup({ backend: "fake", store, rank: 0, worldSize: 1, container });
    await group.barrier().catch(() => {});
    console.log(group.state);
  `;
  const { stdout } = Bun.spawnSync([process.execPath, "-e", script], {
    env: { ...process.env, C10D_TRACE_DIR: traces },
  });
  expect(stdout.toString()).toBe("OPEN\n");
  expect(readdirSync(traces)).toEqual(["trace_rank_0.json"]);
});

describe("a group that fails writes the flight recorder", () => {
  test("to the files that the environment names, for this user alone, and says where", () => {
    const [traces, prefix] = [join(folder, "traces"), join(folder, "pickle_")];
    const { stdout, stderr } = failingJob({ C10D_TRACE_DIR: traces, TORCH_FR_DUMP_TEMP_FILE: prefix });
    expect(stdout.toString()).toBe("OP_TIMEOUT\n");
    const path = join(traces, "trace_rank_0.json");
    expect(stderr.toString()).toContain(`the flight recorder is in ${path} and ${prefix}0`);
    expect((statSync(path).mode & 0o777).toString(8)).toBe("600");
    expect(readdirSync(traces).sort()).toEqual(["trace_rank_0.json", "trace_rank_1.json"]);
    const { entries } = JSON.parse(readFileSync(path, "utf8"));
    expect(entries.map(({ api, failed }: Record<string, unknown>) => [api, failed])).toEqual([
      ["barrier", undefined],
      ["allReduce", true],
    ]);
    const pickled = unpickle(readFileSync(`${prefix}0`)) as Map<string, unknown[]>;
    expect(pickled.get("entries")).toHaveLength(2);
  });

  test.each(["checkForNan", "a method that throws"])("with the op that failed during its call: %s", (how) => {
    const traces = mkdtempSync(join(folder, "at-once-"));
    const script = `
      import * as dist from ${JSON.stringify(new URL("../index.ts", import.meta.url).pathname)};
      class Throws extends dist.MethodBackend {
        name = "throws";
        capabilities = { ops: { allReduce: ["float32"], barrier: [] }, reduceOps: { float32: ["SUM"] } };
        barrier() {}
        allReduce() { throw new Error("no luck"); }
      }
      const { capabilities } = new Throws(0, 1);
      const plugin = { name: "throws", type: dist.BackendType.CUSTOM, sdk: 2, devices: ["cpu"], bootstrap: "store", capabilities };
      const container = dist.createContainer();
      container.register(dist.BACKEND_PLUGIN, {
        useValue: { ...plugin, probe: async () => ({ available: true, version: "1", capabilities }), create: async () => new Throws(0, 1) },
      });
      const init = { store: new dist.HashStore(), rank: 0, worldSize: 1, container };
      const ways = {
        checkForNan: { backend: "fake", checkForNan: true },
        "a method that throws": { backend: "throws" },
      };
      const group = await dist.initProcessGroup({ ...init, ...ways[process.argv[1]] });
      await group.barrier();
      const work = group.allReduce(Float32Array.of(NaN));
      const error = await work.catch((reason) => reason);
      await group.barrier().catch(() => {});
      console.log(JSON.stringify([work.seq, error.details.seq, error.details.callSite]));
    `;
    const { stdout, stderr } = Bun.spawnSync([process.execPath, "-e", script, how], {
      env: { ...process.env, C10D_TRACE_DIR: traces, C10D_LOG_LEVEL: "warn" },
    });
    if (stdout.length === 0) throw new Error(stderr.toString());
    expect(JSON.parse(stdout.toString())).toEqual([2, 2, expect.stringContaining(":")]);
    expect(stderr.toString().match(/the flight recorder is in/g)).toHaveLength(1);
    const { entries } = JSON.parse(readFileSync(join(traces, "trace_rank_0.json"), "utf8"));
    type Entry = Record<"api" | "collective_seq_id" | "failed", unknown> & { readonly frames: readonly unknown[] };
    const brief = entries.map((entry: Entry) => [entry.api, entry.collective_seq_id, entry.failed]);
    expect(brief).toEqual([
      ["barrier", 1, undefined],
      ["allReduce", 2, true],
    ]);
    expect(entries[1].frames).not.toEqual([]);
  });

  test("so does a rank that cannot make a group", () => {
    const traces = mkdtempSync(join(folder, "creation-"));
    const index = (path: string) => JSON.stringify(new URL(path, import.meta.url).pathname);
    const script = `
      import * as dist from ${index("../index.ts")};
      import { localRanks } from ${index("../testing/index.ts")};
      await localRanks(2, async ({ rank }) => {
        await dist.barrier();
        if (rank === 0) console.log(await dist.newGroup([0, 1], { timeout: 100 }).catch(({ code }) => code));
        else await Bun.sleep(400);
      });
    `;
    const { stdout, stderr } = Bun.spawnSync([process.execPath, "-e", script], {
      env: { ...process.env, C10D_TRACE_DIR: traces, C10D_LOG_LEVEL: "warn" },
    });
    expect(stdout.toString()).toBe("CONNECT_TIMEOUT\n");
    const path = join(traces, "trace_rank_0.json");
    expect(stderr.toString()).toContain(
      `newGroup: group "1" could not be made (rank 0); the flight recorder is in ${path}`,
    );
    expect(readdirSync(traces)).toEqual(["trace_rank_0.json"]);
    expect(JSON.parse(readFileSync(path, "utf8")).entries).toMatchObject([{ api: "barrier", state: "completed" }]);
  });

  test("warns when it cannot, and the op fails as it would otherwise", () => {
    mkdirSync(join(folder, "file_0"));
    const { stdout, stderr } = failingJob({ TORCH_FR_DUMP_TEMP_FILE: join(folder, "file_") });
    expect(stdout.toString()).toBe("OP_TIMEOUT\n");
    expect(stderr.toString()).toContain("the flight recorder could not be written");
  });

  test("PyTorch's older names of the variables have effect where the newer ones are not set", () => {
    const old = join(folder, "old_");
    failingJob({ TORCH_NCCL_DEBUG_INFO_TEMP_FILE: old });
    expect(existsSync(`${old}0`)).toBe(true);
    const [newer, none] = [join(folder, "newer_"), join(folder, "older_")];
    failingJob({ TORCH_FR_DUMP_TEMP_FILE: newer, TORCH_NCCL_DEBUG_INFO_TEMP_FILE: none });
    expect([existsSync(`${newer}0`), existsSync(`${none}0`)]).toEqual([true, false]);
    failingJob({ TORCH_FR_DUMP_TEMP_FILE: none, TORCH_NCCL_TRACE_BUFFER_SIZE: "0" });
    expect(existsSync(`${none}0`)).toBe(false);
  });

  test("NCCL_ENABLE_TIMING has effect, and is deprecated", () => {
    const { stderr } = failingJob({ NCCL_ENABLE_TIMING: "1" });
    expect(stderr.toString()).toContain("NCCL_ENABLE_TIMING is deprecated; use TORCH_NCCL_ENABLE_TIMING instead");
    expect(failingJob({ TORCH_NCCL_ENABLE_TIMING: "1" }).stderr.toString()).not.toContain("deprecated");
  });

  test("writes nothing otherwise, nor without entries", () => {
    const traces = join(folder, "none");
    failingJob({ C10D_TRACE_DIR: traces, C10D_TRACE_BUFFER_SIZE: "0" });
    expect(readdirSync(folder)).not.toContain("none");
  });
});
