import "reflect-metadata";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as dist from "../index.ts";
import { localRanks } from "../testing/index.ts";

const here = import.meta.path;
const one = () => new Float32Array(1);

/** What an op fails with: by `await`, or by `wait()`. */
async function failure(work: dist.Work<unknown>, how: "await" | "wait"): Promise<dist.DistError> {
  const error = await (async () => (how === "await" ? await work : work.wait()))().catch((thrown: unknown) => thrown);
  if (!(error instanceof dist.DistError)) throw new Error(`ended with ${String(error)}`);
  return error;
}

const firstFrame = (error: Error) => error.stack?.split("\n").find((line) => /^\s+at /.test(line));

describe.each(["await", "wait"] as const)("an error that %s gives shows the line of the call first", (how) => {
  let group: dist.ProcessGroup;
  beforeAll(async () => {
    group = await dist.initProcessGroup({ backend: "fake", store: new dist.HashStore(), rank: 0, worldSize: 1 });
  });
  afterAll(() => group.close());

  const refused: Readonly<Record<string, () => dist.Work<unknown>>> = {
    "a tensor": () => group.allReduce("x" as never),
    "a rank": () => dist.broadcast(one(), { src: 7 }),
    "an object": () => group.allGatherObject(() => {}),
    "a sparse tensor": () =>
      group.allReduce(dist.sparseTensor({ indices: [[0]], values: one(), shape: [3] }), { op: dist.ReduceOp.MAX }),
    "a batch": () =>
      group.coalescing(() => {
        throw new Error("no");
      }),
    "a list of messages": () => group.batchIsendIrecv([{} as never])[0] as dist.Work<unknown>,
  };
  test.each(Object.entries(refused))("for %s that is refused", async (_, call) => {
    const work = call();
    const error = await failure(work, how).catch((thrown: Error) => thrown);
    expect(firstFrame(error)).toContain(here);
  });
});

test("an op without a group shows the line of the call first", async () => {
  const error = await failure(dist.barrier(), "await");
  expect(error.code).toBe("NOT_INITIALIZED");
  expect(firstFrame(error)).toContain(here);
});

test("a time-out names the line of the call in its message and details", async () => {
  await localRanks(2, async ({ rank }) => {
    if (rank === 1) {
      await Bun.sleep(500);
      return;
    }
    const late = dist.allReduce(one(), { timeout: 50 });
    await failure(late, "await").then((error) => {
      expect(error.code).toBe("OP_TIMEOUT");
      expect(error.details.callSite).toMatch(/call-sites\.test\.ts:\d+:\d+$/);
      expect(error.message).toContain(`called at ${error.details.callSite}`);
      expect(firstFrame(error)).toContain(here);
    });
  });
});

test("the waiting itself that times out names it, too, and the op goes on", async () => {
  class Slow extends dist.Work<void> {
    protected override block(limitMs: number): void {
      throw this.waitTimeout(limitMs);
    }
  }
  class SlowBackend extends dist.MethodBackend {
    override readonly name = "slow";
    override readonly capabilities = { ops: { allReduce: ["float32"] }, reduceOps: { float32: ["SUM"] } } as const;
    override allReduce() {
      return new Slow({ opType: dist.OpType.ALLREDUCE });
    }
  }
  const plugin: dist.BackendPlugin = {
    name: "slow",
    type: dist.BackendType.CUSTOM,
    sdk: 2,
    devices: ["cpu"],
    bootstrap: "self",
    capabilities: { ops: { allReduce: ["float32"] }, reduceOps: { float32: ["SUM"] } },
    probe: async () => ({ available: true, version: "1" }),
    create: async ({ rank, size }) => new SlowBackend(rank, size),
  };
  const container = dist.createContainer({ overrides: [plugin] });
  const store = new dist.HashStore();
  await using group = await dist.initProcessGroup({ backend: "slow", store, rank: 0, worldSize: 1, container });
  const work = group.allReduce(one());
  for (let i = 0; i < 2; i++) {
    expect(() => work.wait({ timeout: 10 })).toThrow(/still pending.*; called at .*call-sites\.test\.ts:\d+:\d+$/);
  }
  expect(work.isCompleted()).toBe(false);
  work.catch(() => {});
});

test("an error that nobody catches is printed with the source of the call, also at the top level of a module", () => {
  const script = `
    import * as dist from ${JSON.stringify(new URL("../index.ts", import.meta.url).pathname)};
    const group = await dist.initProcessGroup({ backend: "fake", store: new dist.HashStore(), rank: 0, worldSize: 1 });
    await dist.broadcast(new Float32Array(1), { src: 7 }); // here
  `;
  const { stderr, exitCode } = Bun.spawnSync([process.execPath, "-e", script]);
  const text = stderr.toString();
  expect(exitCode).toBe(1);
  expect(text).toMatch(/await dist\.broadcast\(.*\/\/ here\n\s+\^/);
  expect(text).toMatch(/at .*\[eval\]:4:\d+\n\s+at rankFrom/);
});

test.each([
  ["returns no string", "(_, frames) => frames"],
  ["throws", "() => { throw new Error('no'); }"],
])("Error.prepareStackTrace that %s costs the call site, and nothing else", (_, prepare) => {
  const script = `
    import * as dist from ${JSON.stringify(new URL("../index.ts", import.meta.url).pathname)};
    const store = new dist.HashStore();
    const options = { mode: "solo", delayMs: 1000 };
    const group = await dist.initProcessGroup({ backend: "fake", store, rank: 0, worldSize: 2, options });
    // Only now: loading a dependency takes a stack, too.
    Error.prepareStackTrace = ${prepare};
    console.log(await group.allReduce(new Float32Array(1), { timeout: 20 }).catch(({ code }) => code));
    await group.close();
  `;
  const { stdout } = Bun.spawnSync([process.execPath, "-e", script], { timeout: 10_000 });
  expect(stdout.toString()).toBe("OP_TIMEOUT\n");
});

test("a bundled program has its own lines as call sites", async () => {
  const folder = mkdtempSync(join(tmpdir(), "c10d-bundle-"));
  try {
    const program = join(folder, "program.ts");
    await Bun.write(
      program,
      `import * as dist from ${JSON.stringify(new URL("../index.ts", import.meta.url).pathname)};
      const group = await dist.initProcessGroup({ backend: "fake", store: new dist.HashStore(), rank: 0, worldSize: 1 });
      async function userStep() { await dist.allReduce("x"); }
      async function userBroadcast() { await group.broadcastObject(1, { src: 7 }); }
      for (const step of [userStep, userBroadcast]) console.log((await step().catch((e) => e)).stack.split("\\n").find((line) => line.includes(" at ")));
      await group.close();`,
    );
    const built = await Bun.build({ entrypoints: [program], target: "bun", outdir: join(folder, "out") });
    const { stdout } = Bun.spawnSync([process.execPath, built.outputs[0]?.path ?? ""], { timeout: 20_000 });
    expect(stdout.toString().split("\n").slice(0, 2)).toEqual([
      expect.stringContaining("at userStep ("),
      expect.stringContaining("at userBroadcast ("),
    ]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("C10D_CALL_SITES=0 turns call sites off", async () => {
  const script = `
    import * as dist from ${JSON.stringify(new URL("../index.ts", import.meta.url).pathname)};
    const group = await dist.initProcessGroup({ backend: "fake", store: new dist.HashStore(), rank: 0, worldSize: 1 });
    const error = await group.allReduce("x").catch((thrown) => thrown);
    console.log(error.stack.split("\\n")[1]);
    await group.close();
  `;
  const run = (value: string) =>
    Bun.spawnSync([process.execPath, "-e", script], { env: { ...process.env, C10D_CALL_SITES: value } });
  expect(run("0").stdout.toString()).toContain("validate.ts");
  expect(run("1").stdout.toString()).not.toContain("/src/");
  expect(run("maybe").stderr.toString()).toContain("C10D_CALL_SITES");
});
