import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import * as dist from "bun-c10d";
import { type BackwardPass, DistributedDataParallel, type GradBucket } from "bun-c10d/ddp";
import { localRanks } from "bun-c10d/testing";
import { describeEmulator, emulatorEnv } from "../../src/backends/nccl/fixtures/emulator.ts";
import { files, page } from "./code/ddp.ts";
import { CodeFolder } from "./code-folder.ts";

setDefaultTimeout(60_000);

const folder = new CodeFolder("ddp", files);
afterAll(() => folder[Symbol.dispose]());

/** What each program prints, on both ranks. */
const printed: Readonly<Record<string, readonly string[]>> = {
  "train.ts": ["y = 3.00 x + 1.00"],
  "hook.ts": ["Float32Array(3) [ 0.5, 0.333251953125, 1000 ]", "Float32Array(3) [ 0.5, 0.3333333432674408, 1 ]"],
  "uneven.ts": ["-1.5"],
};

test("the page has these programs", () => {
  expect([...files.keys()].sort()).toEqual([...Object.keys(printed), "cuda.ts", "loop.test.ts"].sort());
});

test("the test of a training loop passes", async () => {
  const { exitCode, stdout, stderr } = await folder.run(["test", "./loop.test.ts"]);
  expect({ exitCode, output: stdout + stderr }).toEqual({ exitCode: 0, output: expect.stringContaining("1 pass") });
});

test.each(Object.entries(printed))("%s", async (name, lines) => {
  const expected = lines.flatMap((line) => [line, line]).sort();
  expect(await folder.runRanks(name)).toMatchObject({ exitCode: 0, stderr: "", lines: expected });
});

describeEmulator("on emulated devices", () => {
  test("cuda.ts", async () => {
    const [, line] = page.match(/Both ranks print `(Float32Array\(3\) .*)`/) ?? [];
    expect(await folder.runRanks("cuda.ts", emulatorEnv())).toMatchObject({
      exitCode: 0,
      stderr: "",
      lines: [line, line],
    });
  });
});

const floats = (...values: number[]) => Float32Array.from(values);
const parameter = (name: string, data: dist.TensorLike = floats(1, 2)) => ({ name, data });
const create = (options: object = {}, ...names: string[]) =>
  DistributedDataParallel.create({ parameters: names.map((name) => parameter(name)) }, options);
/** A group of all ranks that may fail. */
const newGroup = async (size: number) =>
  (await dist.newGroup(Array.from({ length: size }, (_, rank) => rank))) as dist.ProcessGroup;
const thrownBy = (body: () => unknown) =>
  Promise.try(body).then(
    () => undefined,
    (error: unknown) => error as dist.DistError,
  );
const average = async (bucket: GradBucket) => {
  await bucket.group.allReduce(bucket.dense(), { op: dist.ReduceOp.AVG });
  return bucket.buffer();
};

/** An error of each of two ranks, or of one. */
type Provoked = Promise<readonly (dist.DistError | undefined)[]>;

/** For each row of the table of errors, what provokes them. */
const provoked: Readonly<Record<string, () => Provoked>> = {
  "models that differ": () =>
    localRanks(2, async ({ rank }) => [
      await thrownBy(() => create({}, "same", rank === 0 ? "weight" : "bias")),
      await thrownBy(() => create({ findUnusedParameters: rank === 0 }, "weight")),
    ]).then((errors) => errors.flat()),
  "an option that does not exist": () =>
    localRanks(1, async () => {
      const errors: (dist.DistError | undefined)[] = [];
      for (const options of [{ bukcetCapMb: 1 }, { group: null }]) {
        errors.push(await thrownBy(() => create(options, "weight")));
      }
      return errors;
    }).then(([errors = []]) => errors),
  "`backward()` without": () =>
    localRanks(1, async () => {
      const ddp = await create({}, "weight");
      return thrownBy(() => ddp.backward());
    }),
  "a step whose body throws": () =>
    localRanks(1, async () => {
      const ddp = await create({ group: await newGroup(1) }, "weight");
      const cause = new Error("mine");
      const broken = (pass: BackwardPass) => {
        pass.ready("weight", floats(1, 2));
        throw cause;
      };
      expect(await thrownBy(() => ddp.step(broken))).toBe(cause as never);
      const error = await thrownBy(() => ddp.step(() => {}));
      expect(error?.cause).toBe(cause);
      ddp.resetState();
      ddp.updateProcessGroup(await newGroup(1));
      await ddp.step((pass) => pass.ready("weight", floats(1, 2)));
      return error;
    }),
  "a parameter that got no gradient": () =>
    localRanks(1, async () => {
      const ddp = await create({}, "weight", "bias");
      return thrownBy(() => ddp.step((pass) => pass.ready("weight", floats(1, 2))));
    }),
  "a gradient that comes twice": () =>
    localRanks(1, async () => {
      const ddp = await create({}, "weight", "bias");
      return thrownBy(() =>
        ddp.step((pass) => {
          pass.ready("weight", floats(1, 2));
          pass.ready("weight", floats(1, 2));
        }),
      );
    }),
  "a static graph that changed": () =>
    localRanks(1, async () => {
      const errors: (dist.DistError | undefined)[] = [];
      for (const names of [["weight", "bias"], []]) {
        const ddp = await create({ staticGraph: true, group: await newGroup(1) }, "weight", "bias");
        for (let i = 0; i < 2; i++) await ddp.step((pass) => pass.ready("weight", floats(1, 2)));
        errors.push(
          await thrownBy(() =>
            ddp.step((pass) => {
              for (const name of names) pass.ready(name, floats(1, 2));
            }),
          ),
        );
      }
      return errors;
    }).then(([errors = []]) => errors),
  "a gradient of another": () =>
    localRanks(1, async () => {
      const ddp = await create({}, "weight");
      return thrownBy(() => ddp.step((pass) => pass.ready("weight", floats(1))));
    }),
  "a hook that throws": () =>
    localRanks(1, async () => {
      const errors: (dist.DistError | undefined)[] = [];
      for (const hook of [() => Promise.reject(new Error("mine")), async () => floats(1)]) {
        const ddp = await create({ group: await newGroup(1) }, "weight", "bias");
        ddp.registerCommHook(undefined, hook);
        errors.push(
          await thrownBy(() =>
            ddp.step((pass) => {
              for (const name of ["weight", "bias"]) pass.ready(name, floats(1, 2));
            }),
          ),
        );
      }
      return errors;
    }).then(([errors = []]) => errors),
  "a hook that does not end": () =>
    localRanks(1, async () => {
      const group = (await dist.newGroup([0], { timeout: 200 })) as dist.ProcessGroup;
      const ddp = await create({ group }, "weight");
      ddp.registerCommHook(undefined, () => new Promise(() => {}));
      return thrownBy(() => ddp.step((pass) => pass.ready("weight", floats(1, 2))));
    }),
  "an all-reduce that fails": () =>
    localRanks(2, async ({ rank }) => {
      const group = (await dist.newGroup([0, 1], { timeout: 300 })) as dist.ProcessGroup;
      const ddp = await create({ group }, "weight");
      if (rank === 1) return undefined;
      return thrownBy(() => ddp.step((pass) => pass.ready("weight", floats(1, 2))));
    }).then(([error]) => [error]),
};

const errorTable = page.split("## When something is wrong\n")[1]?.split("\n## ")[0] ?? "";

/** Its rows: what is wrong, and the codes. */
const errorRows = Array.from(errorTable.matchAll(/^\| ([`\w][^|]*) \| ([^|]*) \|$/gm), ([, what = "", error = ""]) => ({
  what,
  codes: Array.from(error.matchAll(/`([A-Z]+_[A-Z_]+)`/g), ([, code = ""]) => code),
}));

test("each row of the table of errors is provoked", () => {
  const tried = Object.keys(provoked);
  expect(errorRows).toHaveLength(tried.length);
  for (const { what } of errorRows) expect(tried.filter((begin) => what.startsWith(begin))).toHaveLength(1);
});

test.each(Object.entries(provoked))("%s…: the error that the page names", async (begin, provoke) => {
  const codes = errorRows.find(({ what }) => what.startsWith(begin))?.codes ?? [];
  const errors = await provoke();
  for (const error of errors) expect(error).toBeInstanceOf(dist.DistError);
  const seen = [...new Set(errors.map((error) => error?.code ?? ""))].sort();
  // That of the all-reduce itself: its peer has left.
  expect(seen).toEqual(codes.length === 0 ? ["PEER_LOST"] : codes.toSorted());
  // They say what it is about.
  for (const error of errors) expect(error?.message).toMatch(/weight|bias|findUnused|bukcetCapMb|group|forward|mine/);
});

test("a failed exchange fails the group on all ranks; another group goes on", async () => {
  const [code] = errorTable.match(/(?<=refused with\s+`)\w+/) ?? [];
  expect(code).toBe("REDUCTION_FAILED");
  await localRanks(2, async ({ rank }) => {
    const ddp = await create({ group: await newGroup(2) }, "weight");
    const other = await newGroup(2);
    let fails = rank === 0;
    ddp.registerCommHook(undefined, async (_, bucket) => {
      if (fails) throw new Error("once");
      return average(bucket);
    });
    const step = () => ddp.step((pass) => pass.ready("weight", floats(rank, 1)));
    const error = await thrownBy(step);
    expect(error?.code).toMatch(rank === 0 ? /^HOOK_FAILED$/ : /^(PEER_LOST|GROUP_FAILED)$/);
    expect(error?.message).toContain("once");
    fails = false;
    expect(await thrownBy(step)).toMatchObject({ code: "REDUCTION_FAILED" });
    ddp.resetState();
    ddp.updateProcessGroup(other);
    expect(ddp.group).toBe(other);
    await step();
    expect(ddp.gradient("weight")).toEqual(floats(0.5, 1));
  });
});

test("the tables of figures have all keys", async () => {
  const section = page.split("## What it costs\n")[1]?.split("\n## ")[0] ?? "";
  const keysUnder = (header: string) => {
    const table = section.split(`| ${header} |`)[1]?.split("\n\n")[0] ?? "";
    const cells = Array.from(table.matchAll(/^\| (`[^|]*) \|/gm), ([, cell = ""]) => cell);
    return cells.flatMap((cell) => Array.from(cell.matchAll(/`(\w+)`/g), ([, key = ""]) => key)).sort();
  };
  await localRanks(1, async () => {
    const ddp = await create({ group: await newGroup(1) }, "weight");
    let fails = false;
    ddp.registerCommHook(undefined, async (_, bucket) => {
      if (fails) throw new Error("mine");
      await Bun.sleep(1);
      return average(bucket);
    });
    const step = async () => {
      await ddp.forward();
      const pass = ddp.backward();
      pass.ready("weight", floats(1, 2));
      await Bun.sleep(1);
      await pass.finish();
    };
    await step();
    expect(ddp.getDdpLoggingData().intsMap.iteration).toBe(0);
    await step();
    expect(ddp.getDdpLoggingData().intsMap.iteration).toBe(1);
    await ddp.join(step);
    fails = true;
    expect(await thrownBy(step)).toBeInstanceOf(dist.DistError);
    const { strsMap, intsMap } = ddp.getDdpLoggingData();
    expect(keysUnder("`strsMap` |")).toEqual(Object.keys(strsMap).sort());
    expect(keysUnder("`intsMap` |")).toEqual(Object.keys(intsMap).sort());
    expect(keysUnder("| in nanoseconds")).toEqual(Object.keys(ddp.reducer.timer.times).sort());
    // Numbers of this size are multiples of 256.
    expect((intsMap.forward_compute_time_start ?? 1) % 256).toBe(0);
  });
});
