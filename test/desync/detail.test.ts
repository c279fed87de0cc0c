import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import fake from "../../src/backends/fake/plugin.ts";
import { allWell } from "../../src/backends/fixtures/all-well.ts";
import { describeGloo } from "../../src/backends/gloo/fixtures/availability.ts";
import { describeUcc, spawn as spawnUcc } from "../../src/backends/ucc/fixtures/availability.ts";
import * as dist from "../../src/index.ts";
import { localRanks, type ReportedError, spawnRanks } from "../../src/testing/index.ts";
import type { DetailArgs, DetailResult } from "./fixtures/detail-ranks.ts";
import type { LevelsArgs } from "./fixtures/levels-differ.ts";

setDefaultTimeout(60_000);

const fixture = (name: string): URL => new URL(`./fixtures/${name}.ts`, import.meta.url);
const modes = ["await", "wait"] as const;

async function expectChecked(args: DetailArgs, options: object): Promise<void> {
  const outcomes = await spawnRanks(3, fixture("detail-ranks"), { ...options, args, timeout: "40s" });
  for (const [rank, result] of allWell<DetailResult>(outcomes).entries()) {
    const other = rank === 1 ? 0 : 1;
    expect(result.sums).toEqual([6, 6, 2, 6, ((rank + 2) % 3) + 1]);
    expect(result.objects).toBe(3);
    expect(result.mismatch).toMatchObject({ name: "DistBackendError", code: "DESYNC", details: { group: "0", rank } });
    expect(result.mismatch?.message).toContain(`Rank ${rank} is running collective: CollectiveFingerPrint(`);
    expect(result.mismatch?.message).toContain(`but Rank ${other} is running collective: CollectiveFingerPrint(`);
    if (rank < 2) {
      expect(result.subgroup).toMatchObject({ code: "DESYNC", details: { group: "1" } });
      expect(result.subgroup?.message).toContain("Tensor Tensor shapes: ");
    } else expect(result.subgroup).toBeUndefined();
    // The backend's own check, with its own text.
    expect(result.off?.code).toBe("DESYNC");
    expect(result.off?.message).not.toContain("CollectiveFingerPrint");
    if (rank === 2) continue;
    expect(result.missing?.message).toContain(
      "): ProcessGroupWrapper: Monitored Barrier encountered error running collective: CollectiveFingerPrint(",
    );
    expect(result.missing?.message).toMatch(
      new RegExp(`^\\w+ #\\d+ on group "0" \\(${args.backend}, rank ${rank} of 3\\): `),
    );
    expect(result.missing?.message).not.toMatch(/ on group "pg_wrapper:0" \(gloo, /);
    expect(result.missingMs).toBeLessThan(4_900);
    if (rank > 0) continue;
    // Rank 1 gives up after the same time, and may be the first: then rank 0 sees it leave, and names rank 2 as well.
    expect(result.missing?.code).toMatch(/^(OP_TIMEOUT|PEER_LOST)$/);
    expect(result.missing).toMatchObject({ details: { peers: [2] } });
  }
}

describeGloo("debug level DETAIL on gloo", () => {
  test.each(modes)("%s", (mode) => expectChecked({ backend: "gloo", mode }, {}));

  test("passes the conformance suite", async () => {
    const root = fileURLToPath(new URL("../..", import.meta.url));
    const child = Bun.spawn(
      [
        process.execPath,
        "test",
        "--timeout",
        "60000",
        "src/backends/gloo/conformance.test.ts",
        "-t",
        // Ranks in processes: for the check, those in Workers are no different.
        "gloo conformance backend gloo, 2 ranks",
      ],
      {
        cwd: root,
        env: {
          ...process.env,
          TORCH_DISTRIBUTED_DEBUG: "DETAIL",
          C10D_LOG_LEVEL: "warn",
          C10D_SWEEP: "",
          NO_COLOR: "1",
        },
        stdout: "pipe",
        stderr: "pipe",
        timeout: 150_000,
        killSignal: "SIGKILL",
      },
    );
    const [, output] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
    expect(output).toMatch(/^\s*[1-9]\d+ pass$/m);
    expect(output.split("\n").filter((line) => /^\(fail\)|^\s*[1-9]\d* fail$/.test(line))).toEqual([]);
    expect(child.exitCode).toBe(0);
  }, 160_000);

  test("on some ranks only is an error that names them, on both sides", async () => {
    const args = { backend: "gloo", group: "default" } as const;
    const outcomes = await spawnRanks(3, fixture("levels-differ"), { args, timeout: "30s" });
    const errors = allWell<ReportedError | undefined>(outcomes);
    expect(errors.map((error) => error?.code)).toEqual(Array(3).fill("PEER_DEBUG_DETAIL"));
    expect(errors.map((error) => error?.details?.peers)).toEqual([[1], [0, 2], [1]]);
    expect(errors[0]?.message).toContain(
      "this rank (0) runs without TORCH_DISTRIBUTED_DEBUG=DETAIL, rank 1 with it: set the same level on all ranks",
    );
    expect(errors[1]?.message).toContain(
      "this rank (1) runs with TORCH_DISTRIBUTED_DEBUG=DETAIL, ranks 0, 2 without it",
    );
  });
});

const groups = ["default", "new", "split"] as const;

/** Ranks 0 and 1 make a group, one of them with the level: both get an error that names the other. */
async function expectLevelsNamed(args: LevelsArgs, options: object): Promise<void> {
  const outcomes = await spawnRanks(2, fixture("levels-differ"), { ...options, args, timeout: "30s" });
  for (const [rank, error] of allWell<ReportedError | undefined>(outcomes).entries()) {
    const { backend } = args;
    expect(error).toMatchObject({ code: "PEER_DEBUG_DETAIL", details: { backend, rank, peers: [1 - rank] } });
    expect(error?.details?.callSite).toMatch(/levels-differ\.ts:\d+:\d+$/);
    expect(error?.message).toEndWith(`; called at ${error?.details?.callSite}`);
    const [own, other] = rank === 1 ? ["with", "without it"] : ["without", "with it"];
    expect(error?.message).toContain(
      `this rank (${rank}) runs ${own} TORCH_DISTRIBUTED_DEBUG=DETAIL, rank ${1 - rank} ${other}: set the same level`,
    );
  }
}

describeGloo("debug level DETAIL on gloo, on one rank only", () => {
  test.each(groups)("%s group", (group) => expectLevelsNamed({ backend: "gloo", group }, {}));
});

describeUcc("debug level DETAIL on ucc", () => {
  test.each(modes)("%s", (mode) => expectChecked({ backend: "ucc", mode }, spawnUcc));

  test.each(groups)("on some ranks only: %s group", (group) => expectLevelsNamed({ backend: "ucc", group }, spawnUcc));
});

/** A backend of the user: the fake one under another name, so that it is not known for what it is. */
const custom: dist.BackendPlugin = {
  name: "mine",
  type: dist.BackendType.CUSTOM,
  sdk: 2,
  devices: ["cpu"],
  bootstrap: "store",
  capabilities: fake.capabilities,
  probe: () => fake.probe(),
  async create(context) {
    return new Mine(await fake.create(context));
  },
};

class Mine extends dist.Backend {
  override readonly name = "mine";
  readonly #inner: dist.Backend;

  constructor(inner: dist.Backend) {
    super(inner.rank, inner.size);
    this.#inner = inner;
  }

  override get capabilities(): dist.Capabilities {
    return this.#inner.capabilities;
  }

  override submit(calls: readonly dist.OpCall[]): readonly dist.Work<void>[] {
    return this.#inner.submit(calls);
  }

  override abort(reason: string): void {
    this.#inner.abort(reason);
  }

  override close(): Promise<void> {
    return this.#inner.close();
  }
}

/** The error of rank 0 when the ranks call different collectives. */
async function mismatchOn(backend: dist.BackendPlugin, container?: dist.DependencyContainer): Promise<dist.DistError> {
  const errors = await localRanks(
    2,
    async ({ rank, group }) => {
      await group.allReduce(Float32Array.of(1));
      const work = rank === 0 ? group.allReduce(Float32Array.of(1)) : group.barrier();
      return work.then(
        () => undefined,
        (error: unknown) => error,
      );
    },
    { backend, timeout: "20s", ...(container && { container }) },
  );
  return errors[0] as dist.DistError;
}

describe("debug level DETAIL in one process", () => {
  afterEach(() => dist.setDebugLevel(dist.DebugLevel.OFF));

  test("ranks of fake share a process and need no second group", async () => {
    dist.setDebugLevel(dist.DebugLevel.DETAIL);
    const error = await mismatchOn(fake);
    expect(error.code).toBe("DESYNC");
    expect(error.message).toContain(
      "rank 0 called allReduce(float32[1], SUM) as collective #2, rank 1 called barrier()",
    );
  });

  test("without Gloo, a backend works as before, and a message says so", async () => {
    dist.setDebugLevel(dist.DebugLevel.DETAIL);
    const container = dist.createContainer();
    const lines: string[] = [];
    const keep = (line: string) => void lines.push(line);
    container.register(dist.LOGGER, { useValue: { debug() {}, info() {}, warn: keep, error: keep } });
    const unavailable = { available: false, reason: "no libgloo", remedy: "install it" } as const;
    const gloo = { ...custom, name: "gloo", type: dist.BackendType.GLOO, probe: () => Promise.resolve(unavailable) };
    container.register(dist.BACKEND_PLUGIN, { useValue: gloo });
    const error = await mismatchOn(custom, container);
    expect(error.message).toContain("rank 0 called allReduce(");
    expect(lines[0]).toContain("TORCH_DISTRIBUTED_DEBUG is DETAIL, but Gloo, over which the ranks would compare");
    expect(lines[0]).toContain('backend "gloo" cannot run here: no libgloo');
  });
});

describeGloo("debug level DETAIL on a backend of the user", () => {
  afterEach(() => dist.setDebugLevel(dist.DebugLevel.OFF));

  test("compares over Gloo", async () => {
    dist.setDebugLevel(dist.DebugLevel.DETAIL);
    const error = await mismatchOn(custom);
    expect(error).toMatchObject({ code: "DESYNC", details: { backend: "mine", seq: 2 } });
    expect(error.message).toContain("CollectiveFingerPrint(SequenceNumber=1OpType=BARRIER)");
  });
});
